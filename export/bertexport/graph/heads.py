"""What a head writes with: the last layer's rows, its steps as nodes, and the inputs and outputs that it adds.

A head reads rows by index, so a batch that does not ask for it gives it no rows. The files of `bertexport.heads` say
what each head writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx
from bertserve.heads.contract import Port, sizes_of

from bertexport.encoders.family import Kind, Step
from bertexport.graph.masked_words import Decode
from bertexport.graph.modules import ModuleWriter
from bertexport.graph.nodes import tensor_info


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadWriter:
    """The graph once its encoder is written. inputs, outputs: those that heads have added so far.

    last_rows: name of the last layer's rows, [tokens, hidden]. decode: states of masked words → their logits.
    """

    modules: ModuleWriter
    last_rows: str
    decode: Decode
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def apply(self, steps: Sequence[Step], rows: str, output: str) -> str:
        """A head's steps one after the other; the last one gives `output`. Heads share the modules that both apply."""
        for number, step in enumerate(steps, start=1):
            name = output if number == len(steps) else f"{output}.step_{number}"
            if isinstance(step, str):
                rows = self.modules.activate(rows, step, name)
            elif step.kind is Kind.NORM:
                rows = self.modules.normalize(rows, step, name)
            else:
                rows = self.modules.linear(rows, step, name, weight_name=f"{step.name}.weight")
        return rows

    def add_inputs(self, ports: Sequence[Port]) -> None:
        self.inputs.extend(map(self._describe, ports))

    def add_outputs(self, ports: Sequence[Port]) -> None:
        self.outputs.extend(map(self._describe, ports))

    def _describe(self, port: Port) -> onnx.ValueInfoProto:
        sizes = sizes_of(self.modules.architecture)
        return tensor_info(port.name, port.sized(sizes), ints=port.ints)
