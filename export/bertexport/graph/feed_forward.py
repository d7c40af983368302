"""The feed-forward of a layer: one writer a choice of `FeedForward`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bertexport.encoders.family import LAYER_ACTIVATION
from bertexport.encoders.spec import FeedForward
from bertexport.graph.layer import Layer


def write_feed_forward(layer: Layer, rows: str) -> str:
    """Rows [tokens, hidden] → rows of the same shape, before they are added to anything."""
    return FEED_FORWARDS[layer.spec.feed_forward](layer, rows)


def _write_plain(layer: Layer, rows: str) -> str:
    up = layer.linear(rows, "up")
    return layer.linear(layer.modules.activate(up, LAYER_ACTIVATION, f"{layer.name}.active"), "down")


FEED_FORWARDS: Mapping[FeedForward, Callable[[Layer, str], str]] = {FeedForward.PLAIN: _write_plain}
