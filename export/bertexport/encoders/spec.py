"""The axes on which encoders differ, and the choices on each.

An axis is an enum with the choices that the export can write today, and a table from choice to writer. A new choice is
a value here, and its writer in that table: positions in `graph.embeddings`, the order of norms in `graph.block`, the
feed-forward in `graph.feed_forward` and `encoders.parts`, span and keys in `graph.attention_loop`, and the layers'
weights in WEIGHT_LAYERS below. Biases are stated module by module: a linear layer has one if its shapes name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Positions(StrEnum):
    """How a token's position enters. TABLE: a learned vector, which is added to the token's embedding."""

    TABLE = "table"


class NormOrder(StrEnum):
    """Where a layer normalizes. AFTER: each sublayer f turns rows x into norm(x + f(x))."""

    AFTER = "after"


class FeedForward(StrEnum):
    """What follows the attention. PLAIN: down(activation(up(x)))."""

    PLAIN = "plain"


class Span(StrEnum):
    """How far a token attends. ALL: to every key of its text, whatever the distance."""

    ALL = "all"


class Keys(StrEnum):
    """Which rows of a text are keys. ALL: every row."""

    ALL = "all"


class LayerWeights(StrEnum):
    """Whose weights a layer has. OWN: each layer its own."""

    OWN = "own"


# Layer → the layer whose weights it has.
WEIGHT_LAYERS: Mapping[LayerWeights, Callable[[int], int]] = {LayerWeights.OWN: lambda layer: layer}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """A choice on every axis. Sizes and other numbers come from a checkpoint's settings, see `Architecture`.

    padding_id: set if positions are counted from the padding token's id + 1, to that id's default; None if from 0.
    """

    positions: Positions
    norm_order: NormOrder
    feed_forward: FeedForward
    span: Span
    keys: Keys
    layer_weights: LayerWeights
    padding_id: int | None = None
