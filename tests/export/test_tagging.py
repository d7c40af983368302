"""Labels of tokens, from checkpoint to engine: equal to PyTorch's, untouched by neighbours, proved at export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bertexport.encoders.architecture import read_architecture, select_weights
from bertexport.export import export_checkpoint
from bertexport.graph.precision.registry import PRECISIONS
from bertexport.proof.inputs import make_items
from bertexport.proof.reference import ReferenceOutputs, expect, load_reference
from bertexport.proof.verification import Outputs, judge, run_engine
from bertexport.request import ExportRequest
from bertexport.source.checkpoint import read_checkpoint
from bertserve.bundle import BundleError, Head, read_bundle
from bertserve.engine.golden import check_golden, read_golden, relative_difference, write_golden
from bertserve.engine.items import Item, Wanted
from bertserve.engine.ort.session import Engine
from bertserve.tokenizer import Text, Tokenizer
from checkpoints import TINY, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import SilentSteps

pytestmark = pytest.mark.export

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
HEADS = (Head.EMBEDDING, Head.MASKED_LM, Head.TOKEN_CLASSIFICATION)
GATE = 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels tokens, and predicts masked words beside that."""
    directory = tmp_path_factory.mktemp("tagging") / "checkpoint"
    return write_checkpoint(directory, ["token_classification", "masked_lm"], labels=LABELS)


@pytest.fixture(scope="module")
def bundle_path(checkpoint: Path) -> Path:
    """Verified on the built-in texts."""
    path = checkpoint.parent / "bundle"
    export_checkpoint(ExportRequest(model=str(checkpoint), output=path), SilentSteps())
    return path


@pytest.fixture(scope="module")
def engine(bundle_path: Path) -> Engine:
    return Engine(read_bundle(bundle_path), threads=1)


def draw_item(length: int, seed: int, *, tag: bool = True) -> Item:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, TINY["vocab_size"], length)
    return Item(input_ids=ids, token_type_ids=rng.integers(0, 2, length), wanted=Wanted(tag=tag, layers=(2,)))


def test_logits_of_every_token_equal_pytorch(checkpoint: Path, engine: Engine) -> None:
    """In one batch of many lengths, each text's rows are those of transformers on the text alone."""
    options = {"attn_implementation": "eager", "dtype": torch.float32}
    model = transformers.BertForTokenClassification.from_pretrained(checkpoint, **options).eval()
    items = [draw_item(length, length) for length in (1, 2, 7, 7, 33, 64)]
    for item, outputs in zip(items, engine.run_items(items), strict=True):
        with torch.inference_mode():
            expected = model(
                input_ids=torch.from_numpy(item.input_ids)[None],
                token_type_ids=torch.from_numpy(item.token_type_ids)[None],
            ).logits[0]
        assert outputs.tag_logits is not None
        assert relative_difference(outputs.tag_logits, expected.numpy()) <= GATE


items = st.builds(draw_item, st.integers(1, 40), st.integers(0, 2**32 - 1), tag=st.booleans())
neighbours = st.lists(items, max_size=8)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(length=st.integers(1, 40), before=neighbours, after=neighbours)
def test_neighbours_never_change_a_label(length: int, before: list[Item], after: list[Item], engine: Engine) -> None:
    """Bit by bit, whether the neighbours ask for labels or not."""
    item = draw_item(length, length)
    alone = engine.run_items([item])[0].tag_logits
    together = engine.run_items([*before, item, *after])[len(before)].tag_logits
    np.testing.assert_array_equal(alone, together, strict=True)


def test_the_report_says_how_well_labels_agree(bundle_path: Path) -> None:
    """Distance and agreement are figures, the distance is gated, and the lengths have their rows."""
    figures = read_bundle(bundle_path).manifest.accuracy
    assert figures["tagging_max_relative_difference"] <= GATE
    assert (figures["tagging_agreement"], figures["tagging_undecided_share"] < 1) == (1.0, True)
    report = (bundle_path / "REPORT.md").read_text(encoding="utf-8")
    assert "| tagging | 16 |" in report
    assert "| tagging_max_relative_difference |" in report


def test_golden_cases_ask_for_labels(bundle_path: Path) -> None:
    """Each holds PyTorch's logits and the bundle's own, a row a token."""
    for case in read_golden(bundle_path / "golden.npz"):
        assert case.item.wanted.tag
        assert case.own["tag_logits"].shape == case.reference["tag_logits"].shape == (case.item.length, len(LABELS))


def test_other_labels_on_another_machine_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    """A logit that is off by a tenth keeps the bundle from being served."""
    path = tmp_path / "bundle"
    path.mkdir()
    for file in bundle_path.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    bundle = read_bundle(path)
    first, *others = read_golden(bundle.golden_path)
    altered = replace(first, own={**first.own, "tag_logits": first.own["tag_logits"] + np.float32(0.1)})
    write_golden(bundle.golden_path, [altered, *others])
    with pytest.raises(BundleError, match="on this machine tag_logits differs"):
        check_golden(Engine(bundle, threads=1))


@pytest.fixture(scope="module")
def outputs(checkpoint: Path, engine: Engine) -> list[Outputs]:
    """What both sides give for a pair and a short text."""
    read = read_checkpoint(checkpoint)
    architecture = read_architecture(read)
    reference = load_reference(checkpoint, select_weights(read, architecture), architecture.heads)
    texts = [Text(text="newton sat on a [MASK]", text_pair="leibniz stood"), Text(text="yes")]
    tokenizer = Tokenizer(engine.bundle.tokenizer_path, engine.bundle.model)
    expected = [expect(reference, item, lambda: None) for item in make_items(tokenizer, texts, architecture)]
    return list(run_engine(engine, expected, lambda: None))


@pytest.mark.parametrize("by", [0.01, np.nan], ids=["one percent", "NaN"])
def test_one_wrong_logit_of_one_token_fails(by: float, outputs: list[Outputs]) -> None:
    """The gate is missed, and the failure names it."""
    assert judge(outputs, PRECISIONS["fp32"].gates, HEADS).failures == ()
    logits = outputs[0].actual.tag_logits.copy()
    logits[3, 1] += by
    wrong = replace(outputs[0], actual=replace(outputs[0].actual, tag_logits=logits))
    failures = judge([wrong, *outputs[1:]], PRECISIONS["fp32"].gates, HEADS).failures
    assert [failure.split()[0] for failure in failures] == ["tagging_max_relative_difference"]


def test_a_label_counts_only_where_pytorch_is_decided(outputs: list[Outputs]) -> None:
    """Of four tokens one is undecided and one of the others turned: an agreement of two thirds."""
    expected = np.array([[0, 2], [2, 0], [0, 2], [0, 0.02]], dtype=np.float32)
    actual = np.array([[0, 2], [2, 0], [2, 0], [0.02, 0]], dtype=np.float32)
    case = replace(
        outputs[0],
        actual=replace(outputs[0].actual, tag_logits=actual),
        expected=ReferenceOutputs(results={**outputs[0].expected.results, Head.TOKEN_CLASSIFICATION: expected}),
    )
    figures = judge([case], PRECISIONS["fp32"].gates, HEADS).figures
    assert figures["tagging_agreement"] == pytest.approx(2 / 3)
    assert figures["tagging_undecided_share"] == 0.25


def test_a_bundle_from_before_the_head_still_proves_itself(engine: Engine, tmp_path: Path) -> None:
    """Golden outputs that say nothing of labels are read as not asking for any."""
    with np.load(engine.bundle.golden_path) as archive:
        arrays = {name: archive[name] for name in archive.files if "tag" not in name}
    np.savez(tmp_path / "golden.npz", **arrays)
    assert not any(case.item.wanted.tag for case in read_golden(tmp_path / "golden.npz"))
