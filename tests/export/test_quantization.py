"""The arithmetic of int8, and that the graph's nodes do it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from bertexport.encoders.parts import LOWEST_OF_ACTIVATION
from bertexport.fit.quantization import quantize_weight, round_rows, smoothing_scales
from bertexport.graph.int8_nodes import Int8Writer
from bertexport.graph.nodes import NodeWriter, tensor_info, write_graph
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper

pytestmark = pytest.mark.export

FLOATS = st.floats(-50, 50, width=32)
MATRICES = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=FLOATS)
GELU_LOWEST = LOWEST_OF_ACTIVATION["gelu"]


@given(MATRICES)
def test_a_weight_comes_back_within_half_a_step(weight: np.ndarray) -> None:
    """Every output has a step of its own, and no value moves further than half of it."""
    quantized = quantize_weight(weight)
    assert np.abs(quantized.values.astype(int)).max() <= 127
    assert np.all(np.abs(quantized.restored() - weight) <= 0.5001 * quantized.scales[:, None])


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-37, 1e37])
def test_outputs_of_any_size_are_quantized(size: float) -> None:
    """Values at the ends of float32 come back too, or as the zeros that they all but are."""
    weight = np.array([[size, -size, size / 2], [1, -2, 3], [0, 0, 0]], np.float32)
    quantized = quantize_weight(weight)
    all_but_zero, steps = 127 * np.finfo(np.float32).tiny, np.abs(weight).max(axis=1, keepdims=True) / 127
    assert np.all(np.abs(quantized.restored() - weight) <= all_but_zero + 0.501 * steps)
    assert (quantized.scales >= np.finfo(np.float32).tiny).all()


@given(MATRICES)
def test_a_weight_and_its_negative_stay_each_others(weight: np.ndarray) -> None:
    """There is no code that only one of them has."""
    assert np.array_equal(quantize_weight(-weight).values, -quantize_weight(weight).values)


@given(MATRICES)
def test_rows_come_back_within_half_a_step_of_their_own(rows: np.ndarray) -> None:
    """A row's step depends on that row alone."""
    steps = np.abs(rows).max(axis=1, keepdims=True) / 127
    assert np.all(np.abs(round_rows(rows) - rows) <= 0.5001 * steps + 1e-30)
    assert np.array_equal(round_rows(rows)[:1], round_rows(rows[:1]))


@given(arrays(np.float32, (3, 7), elements=st.floats(np.float32(GELU_LOWEST), 20, width=32)))
def test_shifted_rows_reach_the_lowest_value(rows: np.ndarray) -> None:
    """Nothing is cut off below, and half a step is at most what sixteen steps below zero make necessary."""
    steps = np.maximum(rows.max(axis=1, keepdims=True) / 239, -GELU_LOWEST / 16)
    assert np.all(np.abs(round_rows(rows, GELU_LOWEST) - rows) <= 0.5001 * steps)


@given(MATRICES, st.integers(0, 2**32 - 1))
def test_smoothing_leaves_the_product_as_it_was(weight: np.ndarray, seed: int) -> None:
    """What the inputs are divided by, the weight is multiplied by; the scales have mean 1 and none is out of bounds."""
    rows = np.random.default_rng(seed).normal(size=(4, weight.shape[1])).astype(np.float32)
    scales = smoothing_scales(np.abs(rows).max(axis=0), weight)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    np.testing.assert_allclose((rows / scales) @ (weight * scales).T, rows @ weight.T, rtol=2e-3, atol=2e-3)


def test_smoothing_makes_an_outlier_cost_less() -> None:
    """A feature twenty times as large as the others no longer takes the steps away from them."""
    rng = np.random.default_rng(0)
    rows, weight = rng.normal(size=(64, 32)).astype(np.float32), rng.normal(size=(16, 32)).astype(np.float32)
    rows[:, 5] *= 20
    scales = smoothing_scales(np.abs(rows).max(axis=0), weight)
    exact = rows @ weight.T
    plain = round_rows(rows) @ quantize_weight(weight).restored().T
    smooth = round_rows(rows / scales) @ quantize_weight(weight * scales).restored().T
    assert np.abs(smooth - exact).mean() < 0.5 * np.abs(plain - exact).mean()


@pytest.mark.parametrize("lowest", [None, GELU_LOWEST, 0.0], ids=["symmetric", "shifted", "from zero"])
def test_the_graph_computes_what_the_arithmetic_says(lowest: float | None, tmp_path: Path) -> None:
    """A linear layer of nodes gives the product of rounded rows and rounded weight, a row of zeros included."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(9, 48)).astype(np.float32)
    rows = np.maximum(rows, lowest) if lowest is not None else rows
    rows[4] = 0
    weight, bias = rng.normal(size=(20, 48)).astype(np.float32), rng.normal(size=20).astype(np.float32)
    writer = NodeWriter(tmp_path)
    Int8Writer(writer, "ids").linear("rows", quantize_weight(weight), bias, "product", lowest=lowest)
    inputs = [
        helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["tokens", 48]),
        tensor_info("ids", ["tokens"], ints=True),
    ]
    write_graph(writer, inputs, [tensor_info("product", ["tokens", 20])])
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"rows": rows, "ids": np.zeros(9, np.int64)})
    expected = round_rows(rows, lowest) @ quantize_weight(weight).restored().T + bias
    np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-4)
