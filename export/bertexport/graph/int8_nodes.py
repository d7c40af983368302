"""Linear layers and tables in int8, node by node, so that every row's values depend on that row alone.

Per-token activations and per-output weights, u8 × s8, for which processors have instructions; the product is a
`MatMulIntegerToFloat`. That node knows one activation scale only, so it runs with scale 1 and the rows are scaled after
it. Per-tensor dynamic quantization, the usual one, would mix the texts of a batch (onnxruntime issue 10111).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bertserve.engine.items import Float32s
from onnx import TensorProto, helper

from bertexport.fit.quantization import HIGHEST_CODE, QuantizedWeight, find_zero_point
from bertexport.graph.nodes import CONTRIB_DOMAIN, NodeWriter


@dataclass(frozen=True, slots=True)
class _QuantizedRows:
    """values: uint8 [rows, in]; scales: float32 [rows, 1]; zero_point: the value that stands for 0."""

    values: str
    scales: str
    zero_point: int


class Int8Writer:
    """Writes through a NodeWriter; rows that several layers read are quantized once."""

    def __init__(self, writer: NodeWriter, rows_like: str) -> None:
        """rows_like: a vector with as many entries as all the inputs have rows."""
        self._writer = writer
        self._rows_like = rows_like
        self._quantized: dict[str, _QuantizedRows] = {}
        self._zero_points: dict[int, str] = {}

    def linear(
        self, rows: str, weight: QuantizedWeight, bias: Float32s | None, output: str, *,
        lowest: float | None = None, table: str = "", name: str = "",
    ) -> str:  # fmt: skip
        """rows · weightᵀ + bias, if any. lowest: what no input goes below, where that is known and near zero.

        table: of that name, as `gather` has it, the weight is; it is then turned round when the graph is loaded.
        name: what the constants are named after, if not after the output.
        """
        writer, quantized, name = self._writer, self._quantize(rows, lowest), name or output
        if table:
            values = writer.node("Transpose", [f"{table}_table"], f"{output}.weight", perm=[1, 0])
        else:
            values = writer.constant(f"{name}.weight", weight.values.T)
        product = writer.node(
            "MatMulIntegerToFloat",
            [
                quantized.values,
                values,
                writer.constant("scale_1", np.float32(1)),
                writer.constant(f"{table}_scales" if table else f"{name}.weight_scales", weight.scales),
                writer.constant(f"zero_point_{quantized.zero_point}", np.uint8(quantized.zero_point)),
            ],
            f"{output}.product",
            domain=CONTRIB_DOMAIN,
        )
        if bias is None:
            return writer.node("Mul", [product, quantized.scales], output)
        scaled = writer.node("Mul", [product, quantized.scales], f"{output}.scaled")
        return writer.node("Add", [scaled, writer.constant(f"{name}.bias", bias)], output)

    def gather(self, table: QuantizedWeight, indices: str, name: str) -> str:
        """Rows of a table [entries, hidden] in which every entry has a scale of its own, as float32."""
        writer = self._writer
        rows = writer.gather(writer.constant(f"{name}_table", table.values), indices, f"{name}_codes")
        scales = writer.gather(writer.constant(f"{name}_scales", table.scales), indices, f"{name}_row_scales")
        return writer.node("DequantizeLinear", [rows, scales], f"{name}_rows", axis=0)

    def _quantize(self, rows: str, lowest: float | None) -> _QuantizedRows:
        if rows not in self._quantized:
            scales, zero_point = self._scale_rows(rows, lowest)
            flat = self._writer.node("Squeeze", [scales, self._writer.ints(1)], f"{rows}.row_scales")
            inputs = [rows, flat, self._repeat_zero_point(zero_point)]
            values = self._writer.node("QuantizeLinear", inputs, f"{rows}.codes", axis=0)
            self._quantized[rows] = _QuantizedRows(values, scales, zero_point)
        return self._quantized[rows]

    def _scale_rows(self, rows: str, lowest: float | None) -> tuple[str, int]:
        """The step between two codes of every row, [rows, 1], and the zero point that goes with it.

        A row of zeros gets the step 0: whatever its codes are, the product is scaled by 0.
        """
        writer = self._writer
        zero_point, least_step = find_zero_point(lowest)
        values = writer.node("Abs", [rows], f"{rows}.absolute") if lowest is None else rows
        largest = writer.node("ReduceMax", [values, writer.ints(-1)], f"{rows}.largest", keepdims=1)
        codes = HIGHEST_CODE - zero_point
        steps = writer.node(
            "Mul", [largest, writer.constant(f"one_in_{codes}", np.float32(1 / codes))], f"{rows}.steps"
        )
        if lowest is None:
            return steps, zero_point
        least = writer.constant(f"least_step_{zero_point}", np.float32(least_step))
        return writer.node("Max", [steps, least], f"{rows}.wide_steps"), zero_point

    def _repeat_zero_point(self, zero_point: int) -> str:
        """One a row, since QuantizeLinear asks for as many as there are scales."""
        if zero_point not in self._zero_points:
            name = f"{self._rows_like}.zero_points_{zero_point}"
            shape = self._writer.node("Shape", [self._rows_like], f"{name}.count")
            value = helper.make_tensor("value", TensorProto.UINT8, [1], [zero_point])
            self._zero_points[zero_point] = self._writer.node("ConstantOfShape", [shape], name, value=value)
        return self._zero_points[zero_point]
