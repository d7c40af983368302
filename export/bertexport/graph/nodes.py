"""Writing an ONNX graph node by node: names, constants, and the few operations that a model repeats.

Knows the operators, not the model. The same calls always give the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bertserve.bundle import GRAPH_NAME
from bertserve.engine.items import Float32s
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bertexport.errors import ExportError
from bertexport.graph.constants import Constants

# 23 is the first with Attention; onnxruntime has run it on CPU since 1.22, which knows IR version 11.
OPSET = 23
IR_VERSION = 11
# ONNX Runtime's own operators.
CONTRIB_DOMAIN = "com.microsoft"


class NodeWriter:
    """The nodes and constants of a graph under construction in a directory. Values are named by strings, as in ONNX."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nodes: list[onnx.NodeProto] = []
        self.constants = Constants(directory)
        # Facts about the graph that whoever loads it may ask for.
        self.properties: dict[str, str] = {}

    def constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        """A constant; one that several nodes read is written once."""
        if name not in self.constants:
            self.constants.add(name, array)
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 vector."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.nodes_out(operator, inputs, [output], **attributes)[0]

    def nodes_out(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    @contextlib.contextmanager
    def subgraph(self) -> Iterator[list[onnx.NodeProto]]:
        """Collect the nodes that are written in the block for a subgraph. Constants stay outside of it."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    def gather(self, rows: str, indices: str, output: str) -> str:
        return self.node("Gather", [rows, indices], output, axis=0)

    def gather_halves(self, name: str, table: Float32s, indices: str, output: str) -> str:
        """Rows of a table that is held in float16, as float32. Beyond the range of float16 it is held as it is.

        That range ends below, too: a LayerNorm makes as much of small values as of large ones.
        """
        with np.errstate(over="ignore"):
            halves = table.astype(np.float16)
        if not np.abs(halves - table).max() <= np.finfo(np.float16).eps * np.abs(table).max():
            return self.gather(self.constant(name, table), indices, output)
        rows = self.gather(self.constant(name, halves), indices, f"{output}.half")
        return self.node("Cast", [rows], output, to=TensorProto.FLOAT)

    def linear(
        self, rows: str, weight: Float32s, bias: Float32s | None, output: str, weight_name: str = "", name: str = ""
    ) -> str:
        """rows · weightᵀ + bias, if any, weight [out, in] as checkpoints hold it. weight_name: of a constant to share
        as it is. name: what the constants are named after, if not after the output.

        MatMul and Add are a few per cent faster than Gemm.
        """
        name = name or output
        biases = [self.constant(f"{name}.bias", bias)] if bias is not None else []
        if weight_name:
            return self.node("Gemm", [rows, self.constant(weight_name, weight), *biases], output, transB=1)
        turned = self.constant(f"{name}.weight", weight.T)
        if not biases:
            return self.node("MatMul", [rows, turned], output)
        product = self.node("MatMul", [rows, turned], f"{output}.product")
        return self.node("Add", [product, *biases], output)

    def layer_norm(self, rows: str, weight: Float32s, bias: Float32s, epsilon: float, output: str) -> str:
        inputs = [rows, self.constant(f"{output}.weight", weight), self.constant(f"{output}.bias", bias)]
        return self.node("LayerNormalization", inputs, output, axis=-1, epsilon=epsilon)

    def activate(self, rows: str, activation: str, output: str) -> str:
        """Raises ExportError for an activation that is not one of ACTIVATIONS."""
        if activation not in ACTIVATIONS:
            raise ExportError(f"config.json: the activation is {activation!r}; supported: {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[activation](self, rows, output)


def _gelu(writer: NodeWriter, rows: str, output: str) -> str:
    return writer.node("Gelu", [rows], output)


def _gelu_tanh(writer: NodeWriter, rows: str, output: str) -> str:
    return writer.node("Gelu", [rows], output, approximate="tanh")


def _relu(writer: NodeWriter, rows: str, output: str) -> str:
    return writer.node("Relu", [rows], output)


def _silu(writer: NodeWriter, rows: str, output: str) -> str:
    return writer.node("Mul", [rows, writer.node("Sigmoid", [rows], f"{output}.sigmoid")], output)


def _tanh(writer: NodeWriter, rows: str, output: str) -> str:
    return writer.node("Tanh", [rows], output)


# By the names in `transformers.activations.ACT2FN`.
ACTIVATIONS: dict[str, Callable[[NodeWriter, str, str], str]] = {
    "gelu": _gelu,
    "gelu_python": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "relu": _relu,
    "silu": _silu,
    "swish": _silu,
    "tanh": _tanh,
}


def write_graph(writer: NodeWriter, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> None:
    """Write model.onnx into the writer's directory."""
    graph = helper.make_graph(writer.nodes, "packed_encoder", inputs, outputs, writer.constants.tensors)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB_DOMAIN, 1)],
        ir_version=IR_VERSION,
        producer_name="bertexport",
    )
    if writer.properties:
        helper.set_model_props(model, writer.properties)
    onnx.save_model(model, writer.directory / GRAPH_NAME)


def tensor_info(name: str, shape: list[int | str], *, ints: bool = False) -> onnx.ValueInfoProto:
    """A graph input or output; a word in its shape is a size that varies."""
    return helper.make_tensor_value_info(name, TensorProto.INT64 if ints else TensorProto.FLOAT, shape)
