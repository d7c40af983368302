"""What a model family is described in: its modules, the steps of its heads, and its words in config.json.

Shapes are written in the words of `Architecture.sizes`. Knows no family, and nothing of files or graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bertserve.bundle import Head

from bertexport.encoders.spec import WEIGHT_LAYERS, EncoderSpec

# In a head's steps: the activation that config.json names for the layers.
LAYER_ACTIVATION = "hidden_act"


class Kind(StrEnum):
    """What a module computes."""

    TABLE = "table"
    LINEAR = "linear"
    NORM = "norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """name: as in `transformers`, without the base model's prefix; `{layer}` stands for the layer, counted from 0.
    shapes: tensor of the module, such as `weight`, → its sizes by name."""

    name: str
    kind: Kind
    shapes: Mapping[str, tuple[str, ...]]

    def tensor_names(self, layer: int = 0) -> dict[str, str]:
        """Tensor of the module → its name in the checkpoint."""
        name = self.name.format(layer=layer)
        return {tensor: f"{name}.{tensor}" for tensor in self.shapes}


# A module that a head applies, or an activation by the name that `transformers` has for it.
Step = Module | str


def table(name: str, rows: str) -> Module:
    return Module(name=name, kind=Kind.TABLE, shapes={"weight": (rows, "embedding")})


def linear(name: str, outputs: str, inputs: str) -> Module:
    return Module(name=name, kind=Kind.LINEAR, shapes={"weight": (outputs, inputs), "bias": (outputs,)})


def norm(name: str, size: str = "hidden") -> Module:
    return Module(name=name, kind=Kind.NORM, shapes={"weight": (size,), "bias": (size,)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Entries of config.json by what they mean. epsilon: in its place where the family fixes it."""

    hidden_size: str = "hidden_size"
    intermediate_size: str = "intermediate_size"
    layer_count: str = "num_hidden_layers"
    attention_heads: str = "num_attention_heads"
    activation: str = "hidden_act"
    epsilon: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """spec: what its encoder is. embeddings, layer: role → module, without token_type if the model has no such table.

    projection: from the embeddings' size to the layers', where config.json's embedding_size differs from hidden_size.
    heads: the steps from the rows that a head reads to its output. marks: beginnings of the names of tensors that
    together show that a head is there. stand_ins: a tensor that may be missing → the one that then takes its place.
    prefix: of the base model's names in checkpoints of a model with heads. classes: heads → the class of `transformers`
    that has them; together the classes of a checkpoint have all its heads.
    """

    name: str
    spec: EncoderSpec
    prefix: str
    embeddings: Mapping[str, Module]
    layer: Mapping[str, Module]
    heads: Mapping[Head, tuple[Step, ...]]
    marks: Mapping[Head, tuple[str, ...]]
    classes: Mapping[tuple[Head, ...], str]
    settings: Settings = field(default_factory=Settings)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    projection: Module | None = None

    @property
    def decoder(self) -> Module | None:
        """What turns a masked token's state into logits over the vocabulary."""
        return self.last_module(Head.MASKED_LM) if Head.MASKED_LM in self.heads else None

    def last_module(self, head: Head) -> Module:
        """The module that gives the head's output."""
        return next(step for step in reversed(self.heads[head]) if isinstance(step, Module))

    def reads_pooler(self, head: Head) -> bool:
        """Whether the head begins with the pooler's steps."""
        pooler = self.heads.get(Head.POOLER, ())
        return bool(pooler) and self.heads[head][: len(pooler)] == pooler

    def modules(self, heads: tuple[Head, ...], layer_count: int, *, projects: bool) -> Iterator[tuple[Module, int]]:
        """Every module that a model with these heads needs, with its layer."""
        for module in self.embeddings.values():
            yield module, 0
        if projects and self.projection is not None:
            yield self.projection, 0
        for layer in dict.fromkeys(map(WEIGHT_LAYERS[self.spec.layer_weights], range(layer_count))):
            for module in self.layer.values():
                yield module, layer
        steps = (step for head in heads for step in self.heads[head])
        for module in {step.name: step for step in steps if isinstance(step, Module)}.values():
            yield module, 0
