"""A checkpoint's modules as nodes, in fp32: linear layers, LayerNorms and activations, each with its tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bertserve.engine.items import Float32s

from bertexport.encoders.architecture import Architecture, Weights
from bertexport.encoders.family import LAYER_ACTIVATION, Module
from bertexport.graph.nodes import NodeWriter


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer as checkpoints hold it. weight: float32 [out, in]; bias: float32 [out], None without one.

    name: what its constants are named after. Layers of one name share their constants.
    """

    weight: Float32s
    bias: Float32s | None
    name: str


def join(*layers: Linear, name: str) -> Linear:
    """One layer that gives the outputs of all, side by side. All read the same rows."""
    biases = [layer.bias if layer.bias is not None else np.zeros(len(layer.weight), np.float32) for layer in layers]
    has_bias = any(layer.bias is not None for layer in layers)
    weight = np.concatenate([layer.weight for layer in layers])
    return Linear(weight, np.concatenate(biases) if has_bias else None, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleWriter:
    """Writes modules of one checkpoint. Rows are names of values [rows, in]; each method returns the name `output`."""

    nodes: NodeWriter
    weights: Weights
    architecture: Architecture

    def tensors(self, module: Module, layer: int = 0) -> dict[str, Float32s]:
        """Tensor of the module, such as `weight`, → its values."""
        return {tensor: self.weights.tensors[name] for tensor, name in module.tensor_names(layer).items()}

    def read_linear(self, module: Module, name: str, layer: int = 0) -> Linear:
        tensors = self.tensors(module, layer)
        return Linear(tensors["weight"], tensors.get("bias"), name)

    def linear(self, rows: str, module: Module, output: str, weight_name: str = "") -> str:
        """weight_name: of a constant that several layers share, see `NodeWriter.linear`."""
        linear = self.read_linear(module, output)
        return self.nodes.linear(rows, linear.weight, linear.bias, output, weight_name)

    def normalize(self, rows: str, module: Module, output: str, layer: int = 0) -> str:
        tensors, epsilon = self.tensors(module, layer), self.architecture.layer_norm_epsilon
        return self.nodes.layer_norm(rows, tensors["weight"], tensors["bias"], epsilon, output)

    def activate(self, rows: str, activation: str, output: str) -> str:
        """activation: a name from `nodes.ACTIVATIONS`, or LAYER_ACTIVATION."""
        name = self.architecture.activation if activation == LAYER_ACTIVATION else activation
        return self.nodes.activate(rows, name, output)
