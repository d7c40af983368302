"""int8 for every family, head and activation: the gates hold, and so do figures that are taken apart from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bertexport.export import export_checkpoint
from bertexport.fit.calibration import plan_int8, rank_parts
from bertexport.fit.quantization import Int8Plan
from bertexport.graph.precision.int8 import Int8
from bertexport.proof.inputs import make_items, read_texts
from bertexport.proof.reference import Reference, expect, load_reference
from bertexport.request import ExportRequest
from bertexport.source.reader import SourceModel, read_source
from bertexport.trial import build_trial
from bertserve.bundle import read_bundle
from bertserve.engine.golden import relative_difference
from bertserve.engine.items import Item
from bertserve.engine.ort.session import Engine
from checkpoints import read_tensors, write_checkpoint, write_tensors
from family_checkpoints import SAMPLES, write_family_checkpoint

from .conftest import ALL_HEADS, Export, SilentSteps
from .test_families import BOTH, OUTPUTS, draw_item

pytestmark = pytest.mark.export

DEMO_CHECKPOINT = Path(__file__).parents[2] / "examples" / "pretrain" / "checkpoint"
LENGTHS = (1, 2, 7, 33, 64)
LAYERS = 2
# Inputs that a part is judged by, where all would take longer and say no more.
FEW = 12
LAYER_PARTS = [f"layer_{layer}.{part}" for layer in range(LAYERS) for part in ("qkv", "projection", "up", "down")]
PARTS = {*LAYER_PARTS, "word_table", "mask_logits"}
TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")

KEPT: dict[str, set[str]] = {
    "none": set(),
    "the word table": {"word_table"},
    "the decoder": {"mask_logits"},
    "both": {"word_table", "mask_logits"},
    "one layer": {part for part in LAYER_PARTS if part.startswith("layer_0")},
    "all": PARTS,
}
CLASSIFIERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "labels": ("sequence_classification", {"labels": ("a", "b", "c")}, "classification_agreement"),
    "many labels at once": (
        "sequence_classification",
        {"labels": ("a", "b", "c"), "problem_type": "multi_label_classification"},
        "classification_agreement",
    ),
    "a number": ("sequence_classification", {"labels": ("score",)}, "classification_max_relative_difference"),
    "numbers": (
        "sequence_classification",
        {"labels": ("x", "y", "z"), "problem_type": "regression"},
        "classification_max_relative_difference",
    ),
    "labels of tokens": ("token_classification", {"labels": ("O", "B-PER", "I-PER")}, "tagging_agreement"),
    "one label of tokens": ("token_classification", {"labels": ("O",)}, "tagging_agreement"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "relu": {"hidden_act": "relu"},
    "silu": {"hidden_act": "silu"},
    "tanh": {"hidden_act": "tanh"},
    "gelu_new": {"hidden_act": "gelu_new"},
    "odd sizes": {"hidden_size": 33, "num_attention_heads": 3, "intermediate_size": 41},
    "one layer": {"num_hidden_layers": 1},
    "few positions": {"max_position_embeddings": 16},
}


@pytest.mark.parametrize("heads", [BOTH, ("token_classification",)], ids=["texts", "tokens"])
@pytest.mark.parametrize("family", SAMPLES)
def test_every_family_is_close_to_pytorch(
    family: str, heads: tuple[str, ...], tmp_path: Path, brief_texts: Path
) -> None:
    """With every part in int8, hidden states point where PyTorch's do, and the heads' values lie near."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", family, heads)
    request = ExportRequest(
        model=str(checkpoint), output=tmp_path / "bundle", precision="int8", verify=brief_texts, calibration=brief_texts
    )
    result = export_checkpoint(request, SilentSteps())
    assert (result.verdict.failures, result.notes) == ((), ())
    assert result.operators.exported["com.microsoft::MatMulIntegerToFloat"] == 6 * LAYERS + ("masked_lm" in heads)
    engine = Engine(read_bundle(tmp_path / "bundle"), threads=1)
    for head in heads:
        check_closeness(checkpoint, head, engine)


@pytest.mark.parametrize(("head", "options", "figure"), CLASSIFIERS.values(), ids=CLASSIFIERS.keys())
def test_every_kind_of_classifier_has_a_gate_in_int8(
    head: str, options: dict[str, Any], figure: str, tmp_path: Path, export: Export
) -> None:
    """Decisions agree; numbers, which decide nothing, lie near."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", [head], **options)
    bundle = export(checkpoint, precision="int8", verify=None)
    report = json.loads((bundle.path / "report.json").read_text(encoding="utf-8"))
    assert figure in [gate["figure"] for gate in report["gates"]]
    assert ("classification_agreement" in report["figures"]) == (figure == "classification_agreement")


@pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_of_every_kind_pass_in_int8(config: dict[str, Any], tmp_path: Path, export: Export) -> None:
    """Activations with and without a lowest value, sizes that divide nothing, the least of layers and positions."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ALL_HEADS, **config)
    bundle = export(checkpoint, precision="int8", verify=None)
    assert json.loads((bundle.path / "report.json").read_text(encoding="utf-8"))["notes"] == []


@pytest.mark.slow
def test_the_demo_model_passes_its_gates_in_int8(export: Export) -> None:
    """It is trained, so that its words have margins."""
    bundle = export(DEMO_CHECKPOINT, precision="int8", verify=None)
    assert bundle.manifest.accuracy_loss == ()
    assert bundle.manifest.accuracy["masked_lm_undecided_share"] < 0.5


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT.keys())
@pytest.mark.parametrize(
    ("family", "config"),
    [("distilbert", {}), ("electra", {}), ("roberta", {"tie_word_embeddings": False})],
    ids=["tied", "tied and narrow", "untied"],
)
def test_any_parts_may_be_kept(family: str, config: dict[str, Any], kept: set[str], tmp_path: Path) -> None:
    """Word table and decoder may be one constant or two, in one precision or two."""
    source, reference = open_source(
        write_family_checkpoint(tmp_path / "checkpoint", family, **config), tmp_path / "staging"
    )
    items = make_items(source.tokenizer, read_texts(None), source.architecture)[:FEW]
    expected = [expect(reference, item, lambda: None) for item in items]
    precision = Int8(plan=Int8Plan(kept=frozenset(kept)))
    figures = build_trial(tmp_path / "staging", source, expected, SilentSteps(), precision).verdict.figures
    assert figures["token_cosine_min"] >= (0.99999 if kept == PARTS else 0.997)
    assert figures["masked_lm_max_relative_difference"] <= 0.05


@pytest.mark.parametrize("family", SAMPLES)
def test_every_part_has_a_cost(family: str, tmp_path: Path) -> None:
    """In every family's classes the modules are found that the parts are made of, and rounding them shows."""
    source, reference = open_source(write_family_checkpoint(tmp_path / "checkpoint", family), tmp_path / "staging")
    items = make_items(source.tokenizer, read_texts(None, "calibration"), source.architecture)[:FEW]
    plan = plan_int8(reference, source.weights, source.architecture, items, lambda: None)
    costs = rank_parts(reference, source.weights, source.architecture, plan, items)
    assert set(costs) == PARTS
    assert all(0 < cost < 1e-2 for cost in costs.values())
    assert list(costs.values()) == sorted(costs.values(), reverse=True)


def test_small_tables_are_not_rounded_away(tmp_path: Path, export: Export) -> None:
    """Values below float16's normal ones are held as they are: a LayerNorm follows, which makes them large."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ["masked_lm"])
    tensors = read_tensors(checkpoint)
    for name, tensor in tensors.items():
        if any(table in name for table in TABLES):
            tensors[name] = tensor * np.float32(1e-7)
    write_tensors(checkpoint, tensors)
    bundle = export(checkpoint, precision="int8")
    assert bundle.manifest.accuracy_loss == ()


def test_calibration_texts_of_ones_own_are_what_counts(tmp_path: Path, brief_texts: Path, export: Export) -> None:
    """Other texts smooth otherwise, and the bundle passes its gates with either."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ALL_HEADS)
    own = export(checkpoint, tmp_path / "own", precision="int8", calibration=brief_texts).manifest
    built_in = export(checkpoint, tmp_path / "built-in", precision="int8").manifest
    assert own.bundle_id != built_in.bundle_id
    assert own.accuracy_loss == built_in.accuracy_loss == ()


def test_the_same_checkpoint_gives_the_same_bundle_id_in_int8(tmp_path: Path, export: Export) -> None:
    """Calibration has no chance in it."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ALL_HEADS)
    first, second = (export(checkpoint, tmp_path / name, precision="int8").manifest for name in ("first", "second"))
    assert first.bundle_id == second.bundle_id


def open_source(checkpoint: Path, staging: Path) -> tuple[SourceModel, Reference]:
    """A checkpoint as an export in int8 reads it, and its reference."""
    staging.mkdir()
    request = ExportRequest(model=str(checkpoint), output=staging, precision="int8")
    source = read_source(request, read_texts(None), staging, SilentSteps())
    return source, load_reference(checkpoint, source.weights, source.architecture.heads)


def check_closeness(checkpoint: Path, head: str, engine: Engine) -> None:
    """Against the family's own class, on token ids of many lengths."""
    facts = engine.bundle.model
    model = getattr(transformers, SAMPLES[facts.family].classes[head]).from_pretrained(
        checkpoint, attn_implementation="eager", dtype=torch.float32
    )
    rng, padding = np.random.default_rng(1), facts.position_offset - 1
    drawn = [rng.integers(0, facts.vocabulary_size, length) for length in LENGTHS]
    items = [draw_item(np.where(ids == padding, 0, ids), facts.layer_count, (head,)) for ids in drawn]
    for item, outputs in zip(items, engine.run_items(items), strict=True):
        hidden, logits = run_pytorch(model.eval(), item)
        for layer, states in enumerate(hidden):
            assert lowest_cosine(outputs.layers[layer], states) >= 0.997, (layer, item.length)
        if head == "masked_lm":
            logits = logits[list(item.wanted.mask_positions)][:, list(item.wanted.target_ids)]
        assert relative_difference(getattr(outputs, OUTPUTS[head]), logits) <= 0.05, item.length


def run_pytorch(model: Any, item: Item) -> tuple[list[np.ndarray], np.ndarray]:
    """Hidden states of all layers, and the head's logits; of a vocabulary its log-probabilities."""
    with torch.inference_mode():
        outputs = model(input_ids=torch.from_numpy(item.input_ids)[None], output_hidden_states=True)
    logits = outputs.logits[0]
    if item.wanted.mask_positions:
        logits = logits.log_softmax(-1)
    return [states[0].numpy() for states in outputs.hidden_states], logits.numpy()


def lowest_cosine(actual: np.ndarray, expected: np.ndarray) -> float:
    lengths = np.linalg.norm(actual, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((actual * expected).sum(axis=1) / lengths).min())
