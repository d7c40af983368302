"""Figures and gates: agreement passes, the smallest real difference is seen, and undecided cases do not count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bertexport.encoders.architecture import read_architecture, select_weights
from bertexport.encoders.bert import BERT
from bertexport.graph.precision.registry import PRECISIONS
from bertexport.proof.figures import write_cosine, write_figure, write_share
from bertexport.proof.inputs import Use, make_items, read_long_texts, read_text_file, read_texts, vary
from bertexport.proof.reference import ReferenceOutputs, choose_classes, expect, load_reference
from bertexport.proof.verification import Outputs, judge, run_engine
from bertexport.source.checkpoint import read_checkpoint
from bertserve.bundle import Head
from bertserve.engine.ort.session import Engine
from bertserve.tokenizer import Text, Tokenizer
from checkpoints import write_checkpoint
from hypothesis import given
from hypothesis import strategies as st

from .conftest import Export

pytestmark = pytest.mark.export

ALL_HEADS = tuple(head for head in Head if head is not Head.TOKEN_CLASSIFICATION)

CLASSES: dict[tuple[Head, ...], list[str]] = {
    (Head.EMBEDDING,): ["BertModel"],
    (Head.EMBEDDING, Head.POOLER): ["BertModel"],
    (Head.EMBEDDING, Head.MASKED_LM): ["BertForMaskedLM"],
    (Head.EMBEDDING, Head.POOLER, Head.MASKED_LM): ["BertForMaskedLM", "BertModel"],
    (Head.EMBEDDING, Head.POOLER, Head.MASKED_LM, Head.NEXT_SENTENCE): ["BertForPreTraining"],
    (Head.EMBEDDING, Head.POOLER, Head.NEXT_SENTENCE): ["BertForNextSentencePrediction"],
    ALL_HEADS: ["BertForPreTraining", "BertForSequenceClassification"],
    (Head.EMBEDDING, Head.TOKEN_CLASSIFICATION): ["BertForTokenClassification"],
    (Head.EMBEDDING, Head.POOLER, Head.TOKEN_CLASSIFICATION): ["BertForTokenClassification", "BertModel"],
}


@pytest.fixture(scope="module")
def outputs(full_export: tuple[Path, object], full_engine: Engine) -> list[Outputs]:
    """What both sides give for three texts, a pair with two masks among them."""
    checkpoint = read_checkpoint(full_export[0].parent / "checkpoint")
    architecture = read_architecture(checkpoint)
    reference = load_reference(checkpoint.directory, select_weights(checkpoint, architecture), architecture.heads)
    texts = [
        Text(text="calculus is a [MASK] of math", text_pair="it [MASK] developed by newton and leibniz"),
        Text(text="the cat sat on the mat", text_pair=""),
        Text(text="yes"),
    ]
    tokenizer = Tokenizer(full_engine.bundle.tokenizer_path, full_engine.bundle.model)
    expected = [expect(reference, item, lambda: None) for item in make_items(tokenizer, texts, architecture)]
    return list(run_engine(full_engine, expected, lambda: None))


def shift(outputs: Outputs, name: str, by: float) -> Outputs:
    """The bundle's output moved by `by` in its first value."""
    values = getattr(outputs.actual, name).copy()
    values.flat[0] += by
    return replace(outputs, actual=replace(outputs.actual, **{name: values}))


def test_equal_outputs_pass_every_gate(outputs: list[Outputs]) -> None:
    """All figures of all heads are there, and none fails."""
    verdict = judge(outputs, PRECISIONS["fp32"].gates, ALL_HEADS)
    assert verdict.failures == ()
    assert len(verdict.gates) == 6
    assert verdict.figures["verified_inputs"] == 3


@pytest.mark.parametrize(
    ("output", "figure"),
    [
        ("pooled", "pooler_max_relative_difference"),
        ("mask_top_log_probabilities", "masked_lm_max_relative_difference"),
        ("target_log_probabilities", "masked_lm_max_relative_difference"),
        ("next_sentence_logits", "next_sentence_max_relative_difference"),
        ("class_logits", "classification_max_relative_difference"),
    ],
)
@pytest.mark.parametrize("by", [0.01, np.nan], ids=["one percent", "NaN"])
def test_one_wrong_value_in_one_output_fails(output: str, figure: str, by: float, outputs: list[Outputs]) -> None:
    """The gate of that output is missed, and the failure names it."""
    failures = judge([shift(outputs[0], output, by), *outputs[1:]], PRECISIONS["fp32"].gates, ALL_HEADS).failures
    assert [failure.split()[0] for failure in failures] == [figure]


def test_one_wrong_value_in_any_layer_fails(outputs: list[Outputs]) -> None:
    """Hidden states of every layer are judged, by distance and by cosine."""
    layers = {layer: values.copy() for layer, values in outputs[0].actual.layers.items()}
    layers[1][2, 3] += 1
    wrong = replace(outputs[0], actual=replace(outputs[0].actual, layers=layers))
    failures = judge([wrong, *outputs[1:]], PRECISIONS["fp32"].gates, ALL_HEADS).failures
    assert [failure.split()[0] for failure in failures] == ["hidden_max_relative_difference", "token_cosine_min"]


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_layer_of_nan_fails_every_precision(layer: int, precision: str, outputs: list[Outputs]) -> None:
    """Not a number is not lost among the other layers' cosines."""
    layers = {**outputs[0].actual.layers, layer: np.full_like(outputs[0].actual.layers[layer], np.nan)}
    wrong = replace(outputs[0], actual=replace(outputs[0].actual, layers=layers))
    verdict = judge([wrong, *outputs[1:]], PRECISIONS[precision].gates, ALL_HEADS)
    assert any(failure.startswith("token_cosine") for failure in verdict.failures)
    assert np.isnan(verdict.figures["pooled_cosine_mean"])


def decide(outputs: Outputs, actual: tuple[float, float], expected: tuple[float, float]) -> Outputs:
    """The same input with these next-sentence logits on either side."""
    results = {**outputs.expected.results, Head.NEXT_SENTENCE: np.array(expected, dtype=np.float32)}
    return replace(
        outputs,
        actual=replace(outputs.actual, next_sentence_logits=np.array(actual, dtype=np.float32)),
        expected=ReferenceOutputs(results=results),
    )


def test_a_decision_counts_only_where_pytorch_is_decided(outputs: list[Outputs]) -> None:
    """Of two nearly equal logits either may win: the case is left out, and its share is a figure."""
    undecided, decided = decide(outputs[0], (0.0, 0.02), (0.02, 0.0)), decide(outputs[1], (2.0, 1.0), (2.0, 1.0))
    figures = judge([undecided, decided], PRECISIONS["fp32"].gates, ALL_HEADS).figures
    assert (figures["next_sentence_agreement"], figures["next_sentence_undecided_share"]) == (1.0, 0.5)


def test_a_decided_disagreement_counts(outputs: list[Outputs]) -> None:
    """One of two verdicts turned around is an agreement of one half."""
    turned, kept = decide(outputs[0], (0.0, 2.0), (2.0, 0.0)), decide(outputs[1], (2.0, 1.0), (2.0, 1.0))
    assert judge([turned, kept], PRECISIONS["fp32"].gates, ALL_HEADS).figures["next_sentence_agreement"] == 0.5


def lengthen(outputs: Outputs, times: int) -> Outputs:
    """The same outputs, as if of an input of so many times its length."""
    item = outputs.item
    ids, segments = np.repeat(item.input_ids, times), np.repeat(item.token_type_ids, times)
    return replace(outputs, item=replace(item, input_ids=ids, token_type_ids=segments))


def test_agreement_is_told_by_length(outputs: list[Outputs]) -> None:
    """Decisions on long inputs do not hide among those on short ones; of hidden states there are none."""
    kept, turned = decide(outputs[0], (2.0, 0.0), (2.0, 0.0)), decide(outputs[0], (0.0, 2.0), (2.0, 0.0))
    bands = judge([kept, lengthen(turned, 20)], PRECISIONS["fp32"].gates, ALL_HEADS).bands
    assert [band.agreement for band in bands if band.output == "next_sentence"] == [1.0, 0.0]
    assert {band.top5_overlap for band in bands if band.output == "masked_lm"} == {1.0}
    assert {(band.agreement, band.top5_overlap) for band in bands if band.output == "hidden"} == {(None, None)}


@pytest.mark.parametrize(("heads", "names"), CLASSES.items(), ids=[" ".join(names) for names in CLASSES.values()])
def test_the_reference_has_all_heads(heads: tuple[Head, ...], names: list[str]) -> None:
    """Whatever the checkpoint calls itself, the classes chosen have every head found, in as few as can be."""
    assert [name for _, name in choose_classes(BERT, heads)] == names


def test_built_in_texts_are_of_many_kinds() -> None:
    """Single texts and pairs, with and without masks, from one word to hundreds."""
    texts = read_texts(None)
    words = [len(f"{text.text} {text.text_pair or ''}".split()) for text in texts]
    assert (min(words), max(words)) == (1, 340)
    assert any("[MASK]" not in text.text for text in texts)
    assert any("[MASK]" in text.text and text.text_pair is None for text in texts)
    assert sum(text.text_pair is not None for text in texts) > 40


def test_a_file_of_texts_may_hold_pairs(tmp_path: Path) -> None:
    """A tab parts the texts of a pair. Copies with masks follow the texts, unless a line has masks of its own."""
    path = tmp_path / "texts.tsv"
    path.write_text("a b c d e f g h\n\nis [MASK] it\tyes\n", encoding="utf-8")
    written = [Text(text="a b c d e f g h"), Text(text="is [MASK] it", text_pair="yes")]
    assert read_texts(path) == [*written, Text(text="[MASK] b c d e f g [MASK]")]


@pytest.mark.parametrize("use", ["verify", "calibration"])
def test_a_model_without_a_masked_lm_head_sees_no_mask_that_nobody_wrote(use: Use) -> None:
    """Given texts are run exactly as written, and the built-in ones have no masks."""
    given = [Text(text="a b c d e f g h"), Text(text="is [MASK] it", text_pair="yes")]
    assert vary(given, use, masked=False) == given
    built_in = vary(None, use, masked=False)
    assert len(built_in) == len(vary(None, use, masked=True))
    assert not any("[MASK]" in f"{text.text} {text.text_pair}" for text in built_in)


def test_the_long_text_has_masks_only_for_a_masked_lm_head(tmp_path: Path) -> None:
    """It is a verification text as the others are."""
    for heads, has_masks in ((["masked_lm"], True), (["pooler"], False)):
        checkpoint = write_checkpoint(tmp_path / heads[0], heads, max_position_embeddings=4096)
        (text,) = read_long_texts(read_architecture(read_checkpoint(checkpoint)))
        assert ("[MASK]" in text.text) == has_masks


def test_a_users_texts_are_verified_as_written(tmp_path: Path, export: Export) -> None:
    """A model without a masked-LM head is verified on the lines of the file and nothing else."""
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sat on the table and sat by the river\nyes\n", encoding="utf-8")
    figures = export(write_checkpoint(tmp_path / "checkpoint", ["pooler"]), verify=texts).manifest.accuracy
    # With [CLS] and [SEP]: 11 words and 1 word.
    assert (figures["verified_inputs"], figures["verified_tokens"]) == (2, 16)


LOST = 0.45


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_one_lost_token_fails_every_precision(precision: str, outputs: list[Outputs]) -> None:
    """One vector that points elsewhere is seen, even among so many others that no percentile shows it."""
    layers = {layer: values.copy() for layer, values in outputs[1].actual.layers.items()}
    true = layers[2][3]
    aside = np.random.default_rng(0).normal(size=len(true))
    aside -= aside @ true / (true @ true) * true
    aside *= np.linalg.norm(true) / np.linalg.norm(aside)
    layers[2][3] = LOST * true + (1 - LOST**2) ** 0.5 * aside
    wrong = replace(outputs[1], actual=replace(outputs[1].actual, layers=layers))
    verdict = judge([outputs[0], wrong, *([outputs[0]] * 40)], PRECISIONS[precision].gates, (Head.EMBEDDING,))
    assert verdict.figures["token_cosine_p1"] > 0.9999
    assert any(failure.startswith("token_cosine_min is 0.45, must be ≥ ") for failure in verdict.failures)


@pytest.mark.parametrize(
    ("value", "others", "written"),
    [
        (0.9969999, (0.997,), "0.9969999"),
        (0.99699999999, (0.997,), "0.99699999999"),
        (0.9912, (0.997,), "0.991"),
        (0.997, (0.997,), "0.997"),
        (1.0000001e-4, (1e-4,), "0.00010000001"),
        (0.99998, (0.99999,), "0.99998"),
        (float("nan"), (0.997,), "nan"),
        (float("inf"), (1e-4,), "inf"),
        (1234567.0, (), "1234567"),
    ],
)
def test_a_figure_never_looks_like_a_bound_that_it_misses(
    value: float, others: tuple[float, ...], written: str
) -> None:
    """It is written in as many digits as tell them apart."""
    assert write_figure(value, *others, digits=3) == written


@given(value=st.floats(0.5, 1.5), bound=st.floats(0.5, 1.5))
def test_a_figure_is_written_on_its_own_side_of_a_bound(value: float, bound: float) -> None:
    """What is read back is as far below, at or above the bound as the value is."""
    read_back = float(write_figure(value, bound, digits=3))
    assert (read_back < bound, read_back > bound) == (value < bound, value > bound)


def test_shares_and_cosines_are_whole_only_where_they_are() -> None:
    """99.999 % of decisions are not all of them, and a vector almost the same is not the same."""
    assert [write_share(value) for value in (1.0, 0.99999, 0.5, 1e-6, 0.0, None)] == [
        *("100.00%", "99.999%", "50.00%", "0.0001%", "0.00%", ""),
    ]
    assert [write_cosine(value) for value in (1.0, 1 - 1e-9, 0.5, None)] == [
        "1.0000000",
        "0.999999999",
        "0.5000000",
        "",
    ]


def test_a_missed_gate_is_told_in_digits_that_show_it(outputs: list[Outputs]) -> None:
    """A relative difference just above its bound is not written as the bound."""
    missed = [shift(outputs[0], "next_sentence_logits", 1.0004e-4), *outputs[1:]]
    failures = judge(missed, PRECISIONS["fp32"].gates, (Head.NEXT_SENTENCE,)).failures
    assert len(failures) == 1
    assert failures[0].startswith("next_sentence_max_relative_difference is 0.000100")
    assert not failures[0].startswith("next_sentence_max_relative_difference is 0.0001,")


def test_lines_of_a_file_end_at_line_ends_alone(tmp_path: Path) -> None:
    """A byte order mark and carriage returns are no text; a line separator within a text stays in it."""
    path = tmp_path / "texts.tsv"
    path.write_bytes("\ufeffone\u2028still one\r\ntwo\tof it\r\n".encode())
    assert read_text_file(path, "--calibration") == [
        Text(text="one\u2028still one"),
        Text(text="two", text_pair="of it"),
    ]


@pytest.mark.parametrize(
    ("content", "gaps"),
    [
        ("the cat sat\n", "next_sentence"),
        ("the cat\n\tcat\n", "next_sentence"),
        ("yes\nthe\tcat\n", None),
        ("\tcat\nyes\n", "masked_lm, next_sentence"),
    ],
    ids=["no pair", "a pair without a first text", "both", "neither"],
)
def test_heads_that_the_given_texts_do_not_ask_are_verified_on_built_in_ones(
    content: str, gaps: str | None, tmp_path: Path, export: Export
) -> None:
    """Every head has its figure, and the report names those that the file left out."""
    texts = tmp_path / "texts.tsv"
    texts.write_text(content, encoding="utf-8")
    bundle = export(write_checkpoint(tmp_path / "checkpoint"), verify=texts)
    figures = bundle.manifest.accuracy
    assert {"masked_lm_max_relative_difference", "next_sentence_max_relative_difference"} <= figures.keys()
    report = (bundle.path / "REPORT.md").read_text(encoding="utf-8")
    assert (f"given ones do not ask for it: {gaps}." in report) == (gaps is not None)


@pytest.mark.parametrize("head", [Head.MASKED_LM, Head.NEXT_SENTENCE])
def test_a_head_without_a_figure_fails(head: Head, outputs: list[Outputs]) -> None:
    """Nothing passes for want of a text that asks for it."""
    without = [o for o in outputs if not (o.item.wanted.mask_positions or o.item.wanted.next_sentence)]
    failures = judge(without, PRECISIONS["fp32"].gates, ALL_HEADS).failures
    assert any(failure.startswith(f"no text verifies {head.value}") for failure in failures)
