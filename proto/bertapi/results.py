"""Answers as frozen records with numpy arrays: one per message of the API, with the same field names.

Knows nothing of messages: `responses` makes these records of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from bertapi.errors import BertError

Vectors = NDArray[np.float32] | NDArray[np.float16]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """segment: 0 for the text, 1 for its pair. start, end: code points of the caller's text, end exclusive."""

    text: str
    id: int
    segment: int
    start: int
    end: int
    special: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the request spent its time inside the server."""

    tokenize_seconds: float
    queue_seconds: float
    infer_seconds: float
    finish_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseInfo:
    model: str
    bundle_id: str
    timings: Timings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # arrays have no single truth to compare by
class Embedding:
    """vectors: float32 or float16, read-only, [size] after pooling and [tokens, size] without."""

    vectors: Vectors
    tokens: tuple[Token, ...]
    token_count: int
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrediction:
    token: str
    token_id: int
    log_probability: float
    probability: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPrediction:
    """token_index: among the tokens that the model saw. predictions: best first. targets: in the order asked."""

    token_index: int
    segment: int
    start: int
    end: int
    predictions: tuple[TokenPrediction, ...]
    targets: tuple[TokenPrediction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledText:
    masks: tuple[MaskPrediction, ...]
    token_count: int
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NextSentenceScore:
    """probability: that the second text follows the first."""

    probability: float
    is_next_logit: float
    not_next_logit: float
    token_count: int
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """probability: within 0 to 1; 0 for regression. score: what the checkpoint's own library answers, such as a
    cross-encoder's relevance; 0 from servers that do not tell.
    """

    label: str
    index: int
    probability: float
    logit: float
    score: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """labels: all of them, best first."""

    labels: tuple[LabelScore, ...]
    token_count: int
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedToken:
    """label: the likeliest one."""

    token: Token
    label: LabelScore


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Adjacent tokens of one kind. start, end: code points of the text or pair, as `segment` says; text: what stands
    there. probability: the mean of its tokens'."""

    label: str
    probability: float
    segment: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedText:
    """tokens: without special ones, which carry no label. entities: empty unless asked for."""

    tokens: tuple[TaggedToken, ...]
    entities: tuple[Entity, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedText:
    tokens: tuple[Token, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # holds an Embedding
class Analysis:
    """What was asked of one input; None what was not."""

    embedding: Embedding | None
    fill_mask: FilledText | None
    next_sentence: NextSentenceScore | None
    classification: Classification | None
    tags: TaggedText | None

    @property
    def truncated(self) -> bool:
        parts = (self.embedding, self.fill_mask, self.next_sentence, self.classification, self.tags)
        return any(part.truncated for part in parts if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamedAnalysis:
    """The answer to one input of a stream. index: of the input. Either analysis and info are there, or the error."""

    index: int
    analysis: Analysis | None
    error: BertError | None
    info: ResponseInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is served under a name. heads, default_pooling: lower-case names of the API's enums, such as `masked_lm`.

    loaded_bytes: memory that the bundle takes on the server; longest_text_bytes: memory that its longest text takes
    beside it, on each lane. Both are 0 if the server does not tell.
    """

    name: str
    bundle_id: str
    source: str
    revision: str
    architecture: str
    family: str
    heads: tuple[str, ...]
    hidden_size: int
    layer_count: int
    vocabulary_size: int
    max_tokens: int
    mask_token: str
    labels: tuple[str, ...]
    precision: str
    accuracy: dict[str, float]
    max_inputs: int
    max_characters: int
    max_top_k: int
    max_response_bytes: int
    default_pooling: str
    default_normalize: bool
    loaded_bytes: int = 0
    longest_text_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Results(Sequence[ResultT], Generic[ResultT]):
    """One result per input, in the order of the inputs; a single input gives a sequence of one."""

    items: tuple[ResultT, ...]
    info: ResponseInfo

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[ResultT]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> ResultT: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ResultT, ...]: ...
    def __getitem__(self, index: int | slice) -> ResultT | tuple[ResultT, ...]:
        return self.items[index]


@dataclass(frozen=True, slots=True)
class Embeddings(Results[Embedding]):
    """Embeddings, one per input."""

    @property
    def matrix(self) -> Vectors:
        """The pooled vectors as one array, [inputs, size]. Raises ValueError for unpooled ones of unequal lengths."""
        vectors: list[NDArray[Any]] = [item.vectors for item in self.items]
        return np.stack(vectors)
