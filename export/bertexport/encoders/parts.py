"""The parts of a model, each in one precision as a whole: one list for calibration, fitting and the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bertserve.bundle import Head

from bertexport.encoders.architecture import Architecture
from bertexport.encoders.family import Family, Module
from bertexport.encoders.spec import WEIGHT_LAYERS, FeedForward

# What an activation never goes below. An activation that is missing here has no known bound. The names are those of
# `nodes.ACTIVATIONS`.
LOWEST_OF_ACTIVATION = {
    "gelu": -0.1701,
    "gelu_new": -0.1701,
    "gelu_pytorch_tanh": -0.1701,
    "gelu_fast": -0.1701,
    "relu": 0.0,
    "silu": -0.2785,
    "swish": -0.2785,
}


# Parts outside of the layers.
WORD_TABLE = "word_table"
DECODER = "mask_logits"


class PartKind(StrEnum):
    """What a part computes. DECODER: logits over the vocabulary."""

    LINEAR = "linear"
    WORD_TABLE = "word_table"
    DECODER = "decoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Modules that read the same rows.

    layer: whose weights they have, 0 outside of the layers. name: after that layer, such as `layer_3.qkv`. values: what
    the graph's values are named after, such as `layer_5.qkv` in a layer 5 with the weights of layer 3. lowest: what no
    value of the rows is below, None if unknown. is_smoothed: whether a few features of the rows are so large that
    rounding would lose the others.
    """

    name: str
    values: str
    kind: PartKind
    modules: tuple[Module, ...]
    layer: int = 0
    lowest: float | None = None
    is_smoothed: bool = False

    @property
    def module_names(self) -> tuple[str, ...]:
        """The modules as the checkpoint names them."""
        return tuple(module.name.format(layer=self.layer) for module in self.modules)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LinearPart:
    """A part as any layer has it. roles: of its modules in `Family.layer`."""

    roles: tuple[str, ...]
    is_smoothed: bool = False
    follows_activation: bool = False


# Smoothed are the parts that read a LayerNorm's output. Smoothing all four is slightly worse than these two.
ATTENTION_PARTS: Mapping[str, _LinearPart] = {
    "qkv": _LinearPart(roles=("query", "key", "value"), is_smoothed=True),
    "projection": _LinearPart(roles=("projection",)),
}
FEED_FORWARD_PARTS: Mapping[FeedForward, Mapping[str, _LinearPart]] = {
    FeedForward.PLAIN: {
        "up": _LinearPart(roles=("up",), is_smoothed=True),
        "down": _LinearPart(roles=("down",), follows_activation=True),
    },
}


def list_parts(family: Family, architecture: Architecture) -> tuple[Part, ...]:
    """All parts of a model: those of the layers, the word table, and the decoder if the model has that head."""
    layers = (layer_parts(family, architecture, layer) for layer in range(architecture.layer_count))
    parts = [*(part for parts in layers for part in parts.values())]
    words = family.embeddings["word"]
    parts.append(Part(name=WORD_TABLE, values=WORD_TABLE, kind=PartKind.WORD_TABLE, modules=(words,)))
    if Head.MASKED_LM in architecture.heads:
        last = family.last_module(Head.MASKED_LM)
        parts.append(Part(name=DECODER, values=DECODER, kind=PartKind.DECODER, modules=(last,)))
    # Layers may share their parts.
    return tuple({part.name: part for part in parts}.values())


def layer_parts(family: Family, architecture: Architecture, layer: int) -> dict[str, Part]:
    """A layer's parts, in the order in which they run, by names such as `qkv`."""
    weights_layer = WEIGHT_LAYERS[family.spec.layer_weights](layer)
    described = {**ATTENTION_PARTS, **FEED_FORWARD_PARTS[family.spec.feed_forward]}
    lowest = LOWEST_OF_ACTIVATION.get(architecture.activation)
    return {
        name: Part(
            name=f"layer_{weights_layer}.{name}",
            values=f"layer_{layer}.{name}",
            kind=PartKind.LINEAR,
            modules=tuple(family.layer[role] for role in part.roles),
            layer=weights_layer,
            lowest=lowest if part.follows_activation else None,
            is_smoothed=part.is_smoothed,
        )
        for name, part in described.items()
    }
