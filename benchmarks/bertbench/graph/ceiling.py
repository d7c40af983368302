"""The ceiling of this machine: the matrix products of the model's linear layers, and nothing else.

Per layer, with T rows as in the batch: query, key and value in one [T, h] × [h, 3h], the projection [T, h] × [h, h], up
[T, h] × [h, i] and down [T, i] × [i, h]. Every layer has weights of its own, for those of a real model do not fit into
caches either. No product waits for another; each result is dropped at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from bertserve.bundle import ModelFacts
from bertserve.engine.ort.session import session_options
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

# After the engine, which switches its telemetry off.
import onnxruntime as ort  # isort: skip

from bertbench.graph.runners import Contestant, Kind

OPSET, IR_VERSION = 23, 11
CONTRIB = "com.microsoft"


class CeilingRunner:
    """A session of matrix products."""

    def __init__(self, model: ModelFacts, quantized: bool, threads: int) -> None:
        graph = build_products(model, quantized)
        self._session = ort.InferenceSession(
            graph.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
        )
        self._widths = sorted({model.hidden_size, model.intermediate_size})
        self._quantized = quantized

    def prepare(self, lengths: Sequence[int]) -> Callable[[], object]:
        rng = np.random.default_rng(0)
        rows = sum(lengths)
        feeds = {rows_name(width): _draw(rng, (rows, width), self._quantized) for width in self._widths}
        return lambda: self._session.run(None, feeds)


def ceiling_contestant(model: ModelFacts, precision: str) -> Contestant:
    """The ceiling of a bundle's precision: fp32 products, or u8 × s8 for any other."""
    quantized = precision != "fp32"
    return Contestant(
        name=f"ceiling {'u8×s8' if quantized else 'fp32'}",
        kind=Kind.CEILING,
        precision=precision,
        load=lambda threads: CeilingRunner(model, quantized, threads),
    )


def product_shapes(model: ModelFacts) -> Iterator[tuple[int, int]]:
    """[inputs, outputs] of every linear layer of the encoder."""
    hidden, inner = model.hidden_size, model.intermediate_size
    for _ in range(model.layer_count):
        yield from ((hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden))


def rows_name(width: int) -> str:
    """The graph's input that products of this width read."""
    return f"rows_{width}"


def build_products(model: ModelFacts, quantized: bool) -> ModelProto:
    """fp32: MatMul. Quantized: MatMulIntegerToFloat, one weight scale per column, float32 out, as in int8 bundles."""
    rng = np.random.default_rng(0)
    nodes, sizes = [], []
    constants = [_constant("one", np.float32(1)), _constant("zero_point", np.uint8(128))]
    for number, (width, outputs) in enumerate(product_shapes(model)):
        weight, product = f"weight_{number}", f"product_{number}"
        constants.append(_constant(weight, _draw_weight(rng, (width, outputs), quantized)))
        if quantized:
            constants.append(_constant(f"scale_{number}", np.full(outputs, 1e-4, dtype=np.float32)))
            operands = [rows_name(width), weight, "one", f"scale_{number}", "zero_point"]
            nodes.append(helper.make_node("MatMulIntegerToFloat", operands, [product], domain=CONTRIB))
        else:
            nodes.append(helper.make_node("MatMul", [rows_name(width), weight], [product]))
        # A product that nobody reads is not computed; reading its size costs nothing, and frees it.
        nodes.append(helper.make_node("Shape", [product], [f"size_{number}"]))
        sizes.append(helper.make_tensor_value_info(f"size_{number}", TensorProto.INT64, [2]))
    kind = TensorProto.UINT8 if quantized else TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info(rows_name(width), kind, ["rows", width])
        for width in sorted({model.hidden_size, model.intermediate_size})
    ]
    return helper.make_model(
        helper.make_graph(nodes, "products", inputs, sizes, constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)],
        ir_version=IR_VERSION,
    )


def _draw(rng: np.random.Generator, shape: tuple[int, int], quantized: bool) -> NDArray[np.generic]:
    if quantized:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape, dtype=np.float32)


def _draw_weight(rng: np.random.Generator, shape: tuple[int, int], quantized: bool) -> NDArray[np.generic]:
    return rng.integers(-127, 128, shape, dtype=np.int8) if quantized else _draw(rng, shape, quantized=False)


def _constant(name: str, value: NDArray[np.generic] | np.generic) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)
