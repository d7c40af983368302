"""int8: linear layers and tables as whole numbers, by a plan that leaves some parts out.

Linear layers that the plan keeps out of int8 stay in fp32. A word table that it keeps out is held in fp16, as the small
tables of positions and segments always are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from bertserve.bundle import Head
from bertserve.engine.items import Float32s

from bertexport.encoders.parts import DECODER, WORD_TABLE, Part
from bertexport.fit.quantization import Int8Plan, quantize_weight
from bertexport.graph.int8_nodes import Int8Writer
from bertexport.graph.modules import Linear
from bertexport.graph.nodes import NodeWriter
from bertexport.graph.precision.fp32 import write_decoder
from bertexport.proof.gates import Gate, gate_decisions

# Instruction sets round differently, and a difference that small may fall on either side of a step.
GOLDEN_TOLERANCE = 5e-2
# The worst token. A percentile does not see a single token that is lost. Measured with all parts in int8:
# 0.9993 in the trained demo model, 0.9996 to 0.9999 in random models of all families and larger shapes. A token
# whose vector points elsewhere has 0.5 or less. The gate leaves room for larger models, and finds lost tokens.
LOWEST_TOKEN_COSINE = 0.9
GATES = (
    Gate(head=Head.EMBEDDING, figure="pooled_cosine_mean", at_least=0.999),
    Gate(head=Head.EMBEDDING, figure="token_cosine_p1", at_least=0.997),
    Gate(head=Head.EMBEDDING, figure="token_cosine_min", at_least=LOWEST_TOKEN_COSINE),
    *gate_decisions(0.99, {Head.MASKED_LM: 0.97}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """See `Precision`. plan: what calibration found; empty before it, with every part in int8 as it is."""

    name: str = "int8"
    golden_tolerance: float = GOLDEN_TOLERANCE
    gates: tuple[Gate, ...] = GATES
    plan: Int8Plan = field(default_factory=Int8Plan)

    def open(self, nodes: NodeWriter) -> Int8PartWriter:
        """A writer for the parts of one graph."""
        return Int8PartWriter(nodes, self.plan)


class Int8PartWriter:
    """See `PartWriter`."""

    def __init__(self, nodes: NodeWriter, plan: Int8Plan) -> None:
        self._nodes = nodes
        self._plan = plan
        self._encoder = Int8Writer(nodes, "input_ids")
        # Part → its smoothed rows, which several modules may read.
        self._smoothed: dict[str, str] = {}

    def look_up(self, role: str, table: Float32s, indices: str) -> str:
        if f"{role}_table" == WORD_TABLE and self._is_int8(WORD_TABLE):
            return self._encoder.gather(quantize_weight(table), indices, role)
        return self._nodes.gather_halves(f"{role}_half_table", table, indices, f"{role}_rows")

    def joins(self, part: Part) -> bool:
        """In int8 the modules are products of their own, and those that need no bias save a pass over their rows."""
        return not self._is_int8(part.name)

    def linear(self, rows: str, part: Part, linear: Linear, output: str) -> str:
        if not self._is_int8(part.name):
            return self._nodes.linear(rows, linear.weight, linear.bias, output, name=linear.name)
        scales = self._plan.smoothing.get(part.name)
        if scales is None:
            weight = linear.weight
        else:
            rows, weight = self._smooth(rows, part, scales), linear.weight * scales
        quantized = quantize_weight(weight)
        return self._encoder.linear(rows, quantized, linear.bias, output, lowest=part.lowest, name=linear.name)

    def decode(self, states: str, decoder: Linear, words: Float32s) -> str:
        if not self._is_int8(DECODER):
            return write_decoder(self._nodes, states, decoder, None if self._is_int8(WORD_TABLE) else words)
        is_tied = self._is_int8(WORD_TABLE) and np.array_equal(words, decoder.weight)
        writer = Int8Writer(self._nodes, "mask_rows")
        weight, table = quantize_weight(decoder.weight), "word" if is_tied else ""
        return writer.linear(states, weight, decoder.bias, DECODER, table=table)

    def _smooth(self, rows: str, part: Part, scales: Float32s) -> str:
        """The rows divided by the plan's scales for the part."""
        if part.values not in self._smoothed:
            factors = self._nodes.constant(f"{part.name}.smoothing", 1 / scales)
            self._smoothed[part.values] = self._nodes.node("Mul", [rows, factors], f"{part.values}.smooth")
        return self._smoothed[part.values]

    def _is_int8(self, part: str) -> bool:
        return part not in self._plan.kept
