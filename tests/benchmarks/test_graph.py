"""`bertbench graph` on a real bundle, ceilings and baselines included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from bertbench.errors import BenchError
from bertbench.graph.ceiling import build_products
from bertbench.graph.command import open_bundles
from bertbench.graph.padded import export_padded, make_model, pad, quantize_padded
from bertserve.bundle import read_bundle
from servers import BUNDLES, PLAIN, PRETRAINING

pytestmark = pytest.mark.export

DEMO = Path(__file__).parents[2] / "service" / "bertserve" / "demo"


@pytest.mark.slow
def test_a_run_prints_tables_and_writes_record_and_plot(tmp_path: Path) -> None:
    """Two rounds on a tiny bundle: every contestant has a rate on every shape that the model can take."""
    record, plot = tmp_path / "record.json", tmp_path / "plot.png"
    options = ["--rounds", "2", "--seconds", "0.01", "--profile", "--json", record, "--plot", plot]
    completed = bertbench("graph", PRETRAINING, *options)
    assert completed.returncode == 0, completed.stderr
    assert "cost of masked word" in completed.stdout
    assert "LayerNormalization" in completed.stdout
    shaped = json.loads(record.read_text())["shaped"]
    assert {one["contestant"] for one in shaped} == {
        "pretraining fp32",
        "ceiling fp32",
        "padded graph fp32",
        "PyTorch fp32",
    }
    assert "1×512" not in {one["shape"]["name"] for one in shaped}
    assert all(rate > 0 for one in shaped for rate in one["rates"])
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundles", "message"),
    [
        ([BUNDLES], "manifest.json: cannot be read"),
        ([PRETRAINING, PRETRAINING], "two bundles of one name"),
    ],
    ids=["no bundle", "a name twice"],
)
def test_what_cannot_be_measured_is_refused_in_one_line(bundles: list[Path], message: str) -> None:
    """Exit status 1 and no traceback."""
    completed = bertbench("graph", *bundles)
    assert completed.returncode == 1
    assert message in completed.stderr
    assert completed.stderr.count("\n") == 1


def test_bundles_of_different_shapes_are_refused() -> None:
    """Their ceilings differ."""
    with pytest.raises(BenchError, match="different shapes"):
        open_bundles([PLAIN, DEMO])


@pytest.mark.parametrize("quantized", [False, True], ids=["fp32", "u8×s8"])
def test_the_ceiling_is_all_products_of_the_model(quantized: bool) -> None:
    """Four a layer, each with weights of its own, and nothing else that computes."""
    model = read_bundle(PRETRAINING).model
    graph = build_products(model, quantized).graph
    products = [node for node in graph.node if node.op_type != "Shape"]
    assert {node.op_type for node in products} == {"MatMulIntegerToFloat" if quantized else "MatMul"}
    assert len({node.input[1] for node in products}) == len(products) == 4 * model.layer_count
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    hidden, inner = model.hidden_size, model.intermediate_size
    assert [sizes[node.input[1]] for node in products[:4]] == [
        (hidden, 3 * hidden),
        (hidden, hidden),
        (hidden, inner),
        (inner, hidden),
    ]


@pytest.mark.slow
def test_the_padded_graph_is_what_the_optimizer_can_do(tmp_path: Path) -> None:
    """Attention is fused in every layer, and the int8 form runs on quantized products."""
    model = read_bundle(PRETRAINING).model
    graph = export_padded(make_model(model, "eager"), model, tmp_path)
    assert graph.fused == model.layer_count
    operators = [node.op_type for node in onnx.load(quantize_padded(graph.path)).graph.node]
    assert operators.count("QAttention") == model.layer_count
    assert operators.count("MatMulInteger") == 3 * model.layer_count
    assert "MatMul" not in operators


def test_padding_is_on_the_right_and_masked() -> None:
    """As the optimized graph requires."""
    feeds = pad((2, 4), 100)
    assert feeds["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert not feeds["input_ids"][0, 2:].any()


def bertbench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bertbench", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
