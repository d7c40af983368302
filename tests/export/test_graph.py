"""The graph as written and as the session runs it: fused attention, decoder on mask rows only, no slow kernels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from bertexport.encoders.architecture import read_architecture, select_weights
from bertexport.errors import ExportError
from bertexport.export import ExportResult
from bertexport.graph.precision.contract import Precision
from bertexport.graph.precision.registry import PRECISIONS
from bertexport.graph.writer import build_graph
from bertexport.proof.report import Operators, check_operators
from bertexport.source.checkpoint import read_checkpoint
from bertserve.bundle import read_bundle
from bertserve.engine.items import Item, Wanted
from bertserve.engine.ort.session import Engine
from checkpoints import TINY, write_checkpoint

from .conftest import ALL_HEADS, Export

pytestmark = pytest.mark.export

LAYERS = 3

MS = "com.microsoft"
ALIKE = {
    ("", "Attention"): LAYERS,
    ("", "Loop"): LAYERS,
    ("", "LayerNormalization"): 1 + 2 * LAYERS + 1,
    ("", "Gelu"): LAYERS + 1,
    ("", "LogSoftmax"): 1,
    ("", "TopK"): 1,
}
# Per layer qkv, projection, up, down, and the decoder; always in fp32 the transform, three poolers, and two of logits.
# In int8 query, key and value are products of their own, of the same rows.
# Heads' weights, which may be shared, are read by a Gemm.
COUNTS = {
    ("fp32", "exported"): {("", "MatMul"): 4 * LAYERS, ("", "Gemm"): 1 + 1 + 3 + 2},
    # The session merges each pooler's dense and tanh; and MatMul with Add where it knows the shapes.
    ("fp32", "optimized"): {("", "MatMul"): 3 * LAYERS, (MS, "FusedGemm"): 3},
    ("int8", "exported"): {
        (MS, "MatMulIntegerToFloat"): 6 * LAYERS + 1,
        ("", "QuantizeLinear"): 4 * LAYERS + 1,
        ("", "MatMul"): 0,
    },
    # The turned word table is made once, when the graph is loaded.
    ("int8", "optimized"): {
        (MS, "MatMulIntegerToFloat"): 6 * LAYERS + 1,
        ("", "QuantizeLinear"): 4 * LAYERS + 1,
        ("", "Transpose"): 0,
        ("", "MatMul"): 0,
    },
}
ABSENT = {"Softmax", "SkipLayerNormalization", "BiasGelu", "EmbedLayerNormalization", "Where", "DynamicQuantizeLinear"}


@pytest.fixture(scope="module", params=["fp32", "int8"])
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def graphs(precision: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    """The graph of a checkpoint of three layers with every head, exported and optimized."""
    directory = tmp_path_factory.mktemp("graphs")
    checkpoint = write_checkpoint(directory / "checkpoint", ALL_HEADS, num_hidden_layers=LAYERS)
    write_graph(checkpoint, directory, PRECISIONS[precision])
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(directory / "optimized.onnx")
    options.log_severity_level = 3
    from bertserve.engine.ort.session import SLOW_FUSIONS

    ort.InferenceSession(
        directory / "model.onnx", options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
    )
    return {"exported": onnx.load(directory / "model.onnx"), "optimized": onnx.load(directory / "optimized.onnx")}


def write_graph(checkpoint: Path, directory: Path, precision: Precision = PRECISIONS["fp32"]) -> None:
    read = read_checkpoint(checkpoint)
    architecture = read_architecture(read)
    build_graph(select_weights(read, architecture), architecture, directory, precision)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


@pytest.mark.parametrize("stage", ["exported", "optimized"])
def test_operators_are_those_that_are_meant(stage: str, precision: str, graphs: dict[str, onnx.ModelProto]) -> None:
    """Every layer's attention is one fused node, in the file and in the session, and nothing slow is put together."""
    counts = Counter((node.domain, node.op_type) for node in all_nodes(graphs[stage].graph))
    expected = {**ALIKE, **COUNTS[precision, stage]}
    assert {key: counts[key] for key in expected} == expected
    assert not {operator for _, operator in counts} & ABSENT


def test_the_graph_passes_the_onnx_checker(graphs: dict[str, onnx.ModelProto]) -> None:
    """Types and shapes hold together by the standard's own inference."""
    onnx.checker.check_model(graphs["exported"], full_check=True)


def test_only_mask_rows_are_as_wide_as_the_vocabulary(graphs: dict[str, onnx.ModelProto]) -> None:
    """No tensor has a vocabulary for every token: what is that wide has a row per mask, and its input was gathered."""
    inferred = onnx.shape_inference.infer_shapes(graphs["exported"], data_prop=True).graph
    producers = {output: node for node in inferred.node for output in node.output}
    wide = [
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if TINY["vocab_size"] in [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    ]
    # What the inference knows nothing of, ONNX Runtime's own product, ends in the log-probabilities.
    assert set(wide) <= {"mask_logits", "mask_logits.weight", "mask_log_probs"}
    source = producers["mask_log_probs"]
    while "mask_rows" not in source.input:
        source = producers[source.input[0]]
    assert list(source.input) == [f"hidden_{LAYERS}", "mask_rows"]


def test_weights_stay_outside_of_the_loops(graphs: dict[str, onnx.ModelProto]) -> None:
    """A loop's body reads no constant but small shapes, so that weights are packed once."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graphs["exported"].graph.initializer}
    loops = [node for node in graphs["exported"].graph.node if node.op_type == "Loop"]
    read = {name for loop in loops for node in all_nodes(loop.attribute[0].g) for name in node.input}
    assert max(sizes[name] for name in read if name in sizes) <= 3


def test_a_tied_decoder_shares_the_word_table(graphs: dict[str, onnx.ModelProto]) -> None:
    """The vocabulary is stored once."""
    tables = {tensor.name for tensor in graphs["exported"].graph.initializer if TINY["vocab_size"] in tensor.dims[:1]}
    assert tables - {"word_scales"} == {"mask_logits.bias", "word_table"}


def test_heads_that_nobody_asks_cost_nothing_and_fail_nothing(full_engine: Engine) -> None:
    """A batch without masks, pairs and classes runs with no rows for those heads."""
    item = Item(input_ids=np.arange(9), token_type_ids=np.zeros(9, np.int64), wanted=Wanted(layers=(2,)))
    assert full_engine.run_items([item])[0].layers[2].shape == (9, TINY["hidden_size"])


def test_more_predictions_than_the_vocabulary_holds(full_engine: Engine) -> None:
    """A k beyond the vocabulary gives all of it, best first."""
    wanted = Wanted(mask_positions=(1,), top_k=TINY["vocab_size"] + 10)
    item = Item(input_ids=np.arange(9), token_type_ids=np.zeros(9, np.int64), wanted=wanted)
    outputs = full_engine.run_items([item])[0]
    assert sorted(outputs.mask_top_ids[0]) == list(range(TINY["vocab_size"]))
    assert np.all(np.diff(outputs.mask_top_log_probabilities[0]) <= 0)
    assert np.exp(outputs.mask_top_log_probabilities[0]).sum() == pytest.approx(1, abs=1e-5)


def test_an_improbable_vocabulary_does_not_overflow(tmp_path: Path, export: Export) -> None:
    """Log-probabilities stay finite and right where logits are in the thousands."""
    from checkpoints import read_tensors, write_tensors

    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    tensors = read_tensors(checkpoint)
    tensors["cls.predictions.bias"] = np.linspace(-5000, 5000, TINY["vocab_size"], dtype=np.float32)
    write_tensors(checkpoint, tensors)
    accuracy = export(checkpoint).manifest.accuracy
    assert accuracy["masked_lm_max_relative_difference"] <= 1e-5
    assert accuracy["masked_lm_top1_agreement"] == 1


@pytest.mark.slow
def test_large_weights_lie_in_a_file_of_their_own(tmp_path: Path, export: Export) -> None:
    """Beyond 100 MB the constants move to model.onnx.data, which the manifest lists and the engine reads."""
    sizes = {"vocab_size": 40_000, "hidden_size": 640, "intermediate_size": 640, "num_hidden_layers": 1}
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ["masked_lm"], **sizes)
    bundle = export(checkpoint)
    assert bundle.manifest.files["model.onnx.data"].size > 100_000_000
    assert bundle.manifest.files["model.onnx"].size < 100_000
    assert bundle.manifest.accuracy["masked_lm_top1_agreement"] == 1


def test_the_same_checkpoint_gives_the_same_bundle_id(tmp_path: Path, export: Export) -> None:
    """Graph, tokenizer and golden outputs are the same bytes each time; other weights give another id."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ALL_HEADS)
    first, second = export(checkpoint, tmp_path / "first").manifest, export(checkpoint, tmp_path / "second").manifest
    assert first.bundle_id == second.bundle_id
    assert first.files["golden.npz"] == second.files["golden.npz"]
    other = export(write_checkpoint(tmp_path / "other", ALL_HEADS, seed=1), tmp_path / "third").manifest
    assert other.bundle_id != first.bundle_id


def test_the_report_counts_what_the_session_runs(full_export: tuple[Path, ExportResult]) -> None:
    """report.json, REPORT.md and the result agree on the operators before and after the session's optimizer."""
    path, result = full_export
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    assert report["operators"]["optimized"] == result.operators.optimized
    assert report["operators"]["optimized"]["com.microsoft::FusedGemm"] == 3
    assert "| Attention | 2 | 2 |" in (path / "REPORT.md").read_text(encoding="utf-8")
    assert report["bundle_id"] == read_bundle(path).manifest.bundle_id


@pytest.mark.parametrize(
    "optimized",
    [{"Attention": 1, "Softmax": 1}, {"Attention": 2, "com.microsoft::BiasGelu": 1}, {"MatMul": 8}],
    ids=["one layer decomposed", "slow kernel", "no attention"],
)
def test_a_session_that_rewrites_the_graph_is_refused(optimized: dict[str, int]) -> None:
    """An onnxruntime that takes fused attention apart, or fuses into slow kernels, is noticed at export."""
    with pytest.raises(ExportError, match="the optimized graph has"):
        check_operators(Operators(exported={"Attention": 2}, optimized=optimized), layer_count=2)
