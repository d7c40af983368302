"""Every layer's hidden states as outputs of the graph.

ONNX Runtime keeps all outputs of a graph until the run ends, whether they are fetched or not. Long texts have many
rows, so their graphs make outputs on demand: a layer that the batch does not want gives none of its rows.
"""

from __future__ import annotations

import numpy as np
import onnx
from bertserve.heads.embedding import hidden_output
from onnx import TensorProto, helper

from bertexport.graph.nodes import NodeWriter, tensor_info


class LayerOutputs:
    """Names the rows of each layer, 0 = embedding layer, and makes outputs of them."""

    def __init__(self, writer: NodeWriter, hidden_size: int, layer_count: int, *, on_demand: bool) -> None:
        self._writer = writer
        self._hidden_size = hidden_size
        self._layer_count = layer_count
        self._on_demand = on_demand

    def rows(self, layer: int) -> str:
        """Name of a layer's rows inside the graph: the output itself, unless outputs are made on demand."""
        return f"rows_{layer}" if self._on_demand else hidden_output(layer)

    def go_on(self, layer: int) -> str:
        """A true value for the loop of the attention that follows a layer.

        ONNX Runtime may make the outputs on demand last, and then keeps the rows of all layers for them. So this value
        comes from the layer's output, and the next layer has to wait for it.
        """
        return f"go_on_{layer}" if self._on_demand else "go_on"

    def begin(self, inputs: list[onnx.ValueInfoProto]) -> None:
        """Write one truth value a layer from the list of layers that the batch wants, which becomes an input."""
        if not self._on_demand:
            return
        writer = self._writer
        inputs.append(tensor_info("wanted_layers", ["wanted"], ints=True))
        flags = writer.constant("no_layers", np.zeros(self._layer_count + 1, np.int64))
        size = writer.node("Shape", ["wanted_layers"], "wanted_layers.shape")
        one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
        ones = writer.node("ConstantOfShape", [size], "wanted_layers.ones", value=one)
        flags = writer.node("ScatterElements", [flags, "wanted_layers", ones], "wanted_layers.flags", axis=0)
        writer.node("Cast", [flags], "layer_is_wanted", to=TensorProto.BOOL)

    def offer(self, layer: int, outputs: list[onnx.ValueInfoProto]) -> None:
        """Make a layer's rows an output."""
        output = hidden_output(layer)
        if self._on_demand:
            wanted = self._writer.gather("layer_is_wanted", self._writer.ints(layer), f"{output}.wanted")
            empty = self._writer.constant("no_rows", np.zeros((0, self._hidden_size), np.float32))
            branches = {
                "then_branch": self._branch(self.rows(layer), output),
                "else_branch": self._branch(empty, output),
            }
            self._writer.nodes_out("If", [wanted], [output, self.go_on(layer)], **branches)
        outputs.append(tensor_info(output, ["tokens", self._hidden_size]))

    def _branch(self, rows: str, output: str) -> onnx.GraphProto:
        """One side of the choice: these rows, and a true value."""
        sources = {f"{output}.rows": rows, f"{output}.go_on": "go_on"}
        nodes = [helper.make_node("Identity", [source], [name]) for name, source in sources.items()]
        given = [
            tensor_info(f"{output}.rows", ["tokens", self._hidden_size]),
            helper.make_tensor_value_info(f"{output}.go_on", TensorProto.BOOL, []),
        ]
        return helper.make_graph(nodes, f"{output}.branch", [], given)
