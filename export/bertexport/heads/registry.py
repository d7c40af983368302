"""All heads as the export needs them, by their names in the manifest."""

from __future__ import annotations

from collections.abc import Mapping

from bertserve.bundle import Head

from bertexport.heads import (
    embedding,
    masked_lm,
    next_sentence,
    pooler,
    sequence_classification,
    token_classification,
)
from bertexport.heads.contract import ExportedHead

_HEADS: tuple[ExportedHead, ...] = (
    embedding.EXPORT,
    pooler.EXPORT,
    masked_lm.EXPORT,
    next_sentence.EXPORT,
    sequence_classification.EXPORT,
    token_classification.EXPORT,
)
EXPORTED_HEADS: Mapping[Head, ExportedHead] = {head.kind.head: head for head in _HEADS}
