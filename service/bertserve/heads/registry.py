"""All heads, in the order in which the manifest, reports and golden files name them."""

from __future__ import annotations

from collections.abc import Mapping

from bertserve.bundle import Head
from bertserve.heads.contract import HeadKind
from bertserve.heads.embedding import EMBEDDING
from bertserve.heads.masked_lm import MASKED_LM
from bertserve.heads.next_sentence import NEXT_SENTENCE
from bertserve.heads.pooler import POOLER
from bertserve.heads.sequence_classification import SEQUENCE_CLASSIFICATION
from bertserve.heads.token_classification import TOKEN_CLASSIFICATION

_KINDS: tuple[HeadKind, ...] = (
    EMBEDDING,
    POOLER,
    MASKED_LM,
    NEXT_SENTENCE,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
)
HEADS: Mapping[Head, HeadKind] = {kind.head: kind for kind in _KINDS}
