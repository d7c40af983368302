"""What a caller asks: frozen values, one `Ask` a request. Paths of fields in errors speak of these names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bertserve.bundle import Pooling
from bertserve.tokenizer import Text, Truncation


class LayerMerge(StrEnum):
    """How several layers become one vector per token."""

    CONCAT = "concat"
    SUM = "sum"
    MEAN = "mean"


class VectorType(StrEnum):
    """The element type of vectors in an answer."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class Aggregation(StrEnum):
    """How token labels become entities; NONE: not at all."""

    NONE = "none"
    SIMPLE = "simple"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedAsk:
    """pooling, normalize: None = as the checkpoint states. layers: as in the API, negative ones from the last."""

    pooling: Pooling | None = None
    layers: tuple[int, ...] = ()
    layer_merge: LayerMerge = LayerMerge.CONCAT
    normalize: bool | None = None
    vector_type: VectorType = VectorType.FLOAT32
    include_tokens: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FillMaskAsk:
    """targets: words to score at every mask, unless an input brings its own. optional: an input need not hold a
    mask."""

    top_k: int = 5
    targets: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TagAsk:
    """A label for every token, and with an aggregation the entities that the labels make."""

    aggregation: Aggregation = Aggregation.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Inputs, and what to compute for each from one pass of the encoder.

    input_targets: one tuple per input; where not empty, it stands in place of `fill_mask.targets`.
    """

    inputs: tuple[Text, ...]
    input_targets: tuple[tuple[str, ...], ...] = ()
    embed: EmbedAsk | None = None
    fill_mask: FillMaskAsk | None = None
    next_sentence: bool = False
    classify: bool = False
    tag_tokens: TagAsk | None = None
    truncation: Truncation = Truncation.ERROR
