"""A layer: attention and feed-forward with the sums and norms between them, one writer a choice of `NormOrder`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bertexport.encoders.spec import NormOrder
from bertexport.graph.attention import write_attention
from bertexport.graph.feed_forward import write_feed_forward
from bertexport.graph.layer import Layer


def write_block(layer: Layer) -> None:
    """From the layer's rows to its output."""
    BLOCKS[layer.spec.norm_order](layer)


def _write_norms_after(layer: Layer) -> None:
    summed = layer.add(write_attention(layer, layer.rows), layer.rows, "attention_sum")
    middle = layer.normalize(summed, "attention_norm", f"{layer.name}.middle")
    summed = layer.add(write_feed_forward(layer, middle), middle, "output_sum")
    layer.normalize(summed, "output_norm", layer.output)


BLOCKS: Mapping[NormOrder, Callable[[Layer], None]] = {NormOrder.AFTER: _write_norms_after}
