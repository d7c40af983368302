"""What an encoder is: a choice on every axis of `bertserve.axes`, and how its positions are counted.

A choice has one writer, in a table: positions in `graph.embeddings`, the order of norms in `graph.block`, the
feed-forward in `graph.feed_forward` and `encoders.parts`, span and keys in `graph.attention_loop`, and the layers'
weights in WEIGHT_LAYERS below. Biases are stated module by module too: a linear layer has one if its shapes name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bertserve.axes import EncoderAxes, LayerWeights

# Layer → the layer whose weights it has.
WEIGHT_LAYERS: Mapping[LayerWeights, Callable[[int], int]] = {LayerWeights.OWN: lambda layer: layer}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """Sizes and other numbers come from a checkpoint's settings, see `Architecture`.

    padding_id: set if positions are counted from the padding token's id + 1, to that id's default; None if from 0.
    """

    axes: EncoderAxes
    padding_id: int | None = None
