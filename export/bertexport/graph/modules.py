"""A checkpoint's modules as nodes, in fp32: linear layers, LayerNorms and activations, each with its tensors."""

from __future__ import annotations

from dataclasses import dataclass

from bertserve.engine.items import Float32s

from bertexport.encoders.architecture import Architecture, Weights
from bertexport.encoders.family import LAYER_ACTIVATION, Module
from bertexport.graph.nodes import NodeWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleWriter:
    """Writes modules of one checkpoint. Rows are names of values [rows, in]; each method returns the name `output`."""

    nodes: NodeWriter
    weights: Weights
    architecture: Architecture

    def tensors(self, module: Module, layer: int = 0) -> dict[str, Float32s]:
        """Tensor of the module, such as `weight`, → its values."""
        return {tensor: self.weights.tensors[name] for tensor, name in module.tensor_names(layer).items()}

    def linear(self, rows: str, module: Module, output: str, layer: int = 0, weight_name: str = "") -> str:
        """weight_name: of a constant that several layers share, see `NodeWriter.linear`."""
        tensors = self.tensors(module, layer)
        return self.nodes.linear(rows, tensors["weight"], tensors["bias"], output, weight_name)

    def normalize(self, rows: str, module: Module, output: str, layer: int = 0) -> str:
        tensors, epsilon = self.tensors(module, layer), self.architecture.layer_norm_epsilon
        return self.nodes.layer_norm(rows, tensors["weight"], tensors["bias"], epsilon, output)

    def activate(self, rows: str, activation: str, output: str) -> str:
        """activation: a name from `nodes.ACTIVATIONS`, or LAYER_ACTIVATION."""
        name = self.architecture.activation if activation == LAYER_ACTIVATION else activation
        return self.nodes.activate(rows, name, output)
