"""What a caller is answered: frozen values, one `Analysis` per input, in the order of the inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertserve.tokenizer import Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """vectors: [size] after pooling, [tokens, size] without; float32 or float16. tokens: empty unless asked for."""

    vectors: NDArray[np.floating]
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """token: as the vocabulary holds it. text: as a person writes it. log_probability: natural logarithm."""

    token: str
    token_id: int
    text: str
    log_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledMask:
    """One mask: where it stands among the tokens and in the caller's text, its likeliest tokens, the asked targets."""

    token_index: int
    segment: int
    start: int
    end: int
    predictions: tuple[Prediction, ...]
    targets: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextSentence:
    """probability: that the second text follows the first; softmax of the two logits."""

    probability: float
    is_next_logit: float
    not_next_logit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """probability: softmax for single-label heads and token labels, sigmoid for multi-label heads and for heads of one
    label, 0 for regression. score: the logit through the activation that the checkpoint states; without one the
    probability, and the logit for regression.
    """

    label: str
    index: int
    probability: float
    logit: float
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedToken:
    """A token of the caller's, and its likeliest label."""

    token: Token
    label: LabelScore


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Adjacent tokens of one kind. start, end: code points of the caller's text or pair, as `segment` says; text: what
    stands there. probability: the mean of its tokens'."""

    label: str
    probability: float
    segment: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedText:
    """tokens: without those that the tokenizer added, which carry no label. entities: empty unless asked for."""

    tokens: tuple[TaggedToken, ...]
    entities: tuple[Entity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What was asked of one input, and nothing else. token_count: tokens that the model saw."""

    token_count: int
    truncated: bool
    embedding: Embedding | None = None
    filled_masks: tuple[FilledMask, ...] | None = None
    next_sentence: NextSentence | None = None
    labels: tuple[LabelScore, ...] | None = None
    tags: TaggedText | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds by the clock that a request spent in each stage."""

    tokenize_seconds: float = 0.0
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0
    finish_seconds: float = 0.0
