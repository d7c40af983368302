"""A layer that is being written: what the writers of its block, attention and feed-forward share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bertexport.encoders.parts import Part
from bertexport.encoders.spec import WEIGHT_LAYERS, EncoderSpec
from bertexport.graph.groups import Groups
from bertexport.graph.modules import Linear, ModuleWriter
from bertexport.graph.nodes import NodeWriter
from bertexport.graph.precision.contract import PartWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """number: counted from 0. part_writer: of the graph's precision. parts: the layer's, by names such as `qkv`.
    rows, output: names of the values [tokens, hidden] that it reads and gives. go_on: see `attention_loop`."""

    number: int
    modules: ModuleWriter
    part_writer: PartWriter
    parts: Mapping[str, Part]
    groups: Groups
    rows: str
    output: str
    go_on: str

    @property
    def name(self) -> str:
        """What the names of the layer's values begin with."""
        return f"layer_{self.number}"

    @property
    def nodes(self) -> NodeWriter:
        return self.modules.nodes

    @property
    def spec(self) -> EncoderSpec:
        return self.modules.weights.family.spec

    def add(self, rows: str, others: str, name: str) -> str:
        return self.nodes.node("Add", [rows, others], f"{self.name}.{name}")

    def normalize(self, rows: str, role: str, output: str) -> str:
        """role: of the norm in `Family.layer`."""
        weights_layer = WEIGHT_LAYERS[self.spec.layer_weights](self.number)
        return self.modules.normalize(rows, self.modules.weights.family.layer[role], output, weights_layer)

    def read(self, part: str) -> tuple[Linear, ...]:
        """The part's modules."""
        found = self.parts[part]
        return tuple(self.modules.read_linear(module, found.name, found.layer) for module in found.modules)

    def linear(self, rows: str, part: str, linear: Linear | None = None) -> str:
        """A part of one module, or with another linear layer in the module's place."""
        if linear is None:
            (linear,) = self.read(part)
        return self.part_writer.linear(rows, self.parts[part], linear, self.parts[part].values)
