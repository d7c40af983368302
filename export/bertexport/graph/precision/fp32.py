"""fp32: everything as the checkpoint has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bertserve.bundle import Head
from bertserve.engine.items import Float32s

from bertexport.encoders.parts import DECODER, WORD_TABLE, Part
from bertexport.graph.modules import Linear
from bertexport.graph.nodes import NodeWriter
from bertexport.proof.gates import Gate, gate_distances

# Instruction sets round differently, by about 1e-5 in deep models; a wrong kernel is off by far more.
GOLDEN_TOLERANCE = 1e-3
GATES = (
    *gate_distances(1e-4),
    Gate(head=Head.EMBEDDING, figure="token_cosine_min", at_least=0.99999),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp32:
    """See `Precision`."""

    name: str = "fp32"
    golden_tolerance: float = GOLDEN_TOLERANCE
    gates: tuple[Gate, ...] = GATES

    def open(self, nodes: NodeWriter) -> Fp32PartWriter:
        """A writer for the parts of one graph."""
        return Fp32PartWriter(nodes)


@dataclass(frozen=True, slots=True)
class Fp32PartWriter:
    """See `PartWriter`."""

    nodes: NodeWriter

    def look_up(self, role: str, table: Float32s, indices: str) -> str:
        return self.nodes.gather(self.nodes.constant(f"{role}_table", table), indices, f"{role}_rows")

    def joins(self, part: Part) -> bool:  # noqa: ARG002 - all parts are alike
        """One wide product is faster than several."""
        return True

    def linear(self, rows: str, part: Part, linear: Linear, output: str) -> str:  # noqa: ARG002 - as above
        return self.nodes.linear(rows, linear.weight, linear.bias, output, name=linear.name)

    def decode(self, states: str, decoder: Linear, words: Float32s) -> str:
        return write_decoder(self.nodes, states, decoder, words)


def write_decoder(nodes: NodeWriter, states: str, decoder: Linear, words: Float32s | None) -> str:
    """The decoder in fp32. words: the word table if it is in fp32 too; a decoder of the same weight shares it."""
    name = WORD_TABLE if words is not None and np.array_equal(words, decoder.weight) else ""
    return nodes.linear(states, decoder.weight, decoder.bias, DECODER, name)
