"""The axes on which encoders differ, and the choices on each that a bundle can state.

A manifest states the choices of its encoder, and the export writes a graph by them. A new choice is a value here and a
writer in the export (`bertexport.encoders.spec` names the tables).
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Positions(StrEnum):
    """How a token's position enters. TABLE: a learned vector, which is added to the token's embedding."""

    TABLE = "table"


class NormOrder(StrEnum):
    """Where a layer normalizes. AFTER: each sublayer f turns rows x into norm(x + f(x))."""

    AFTER = "after"


class FeedForward(StrEnum):
    """What follows the attention. PLAIN: down(activation(up(x)))."""

    PLAIN = "plain"


class Biases(StrEnum):
    """Which linear layers and norms have a bias. ALL: every one of them."""

    ALL = "all"


class Span(StrEnum):
    """How far a token attends. ALL: to every key of its text, whatever the distance."""

    ALL = "all"


class Keys(StrEnum):
    """Which rows of a text are keys. ALL: every row."""

    ALL = "all"


class LayerWeights(StrEnum):
    """Whose weights a layer has. OWN: each layer its own."""

    OWN = "own"


class EncoderAxes(BaseModel):
    """A choice on every axis. The defaults are BERT's, and those of every bundle that 0.1.0 wrote."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positions: Positions = Positions.TABLE
    norm_order: NormOrder = NormOrder.AFTER
    feed_forward: FeedForward = FeedForward.PLAIN
    biases: Biases = Biases.ALL
    span: Span = Span.ALL
    keys: Keys = Keys.ALL
    layer_weights: LayerWeights = LayerWeights.OWN
