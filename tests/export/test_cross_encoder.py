"""A cross-encoder's scores are those of sentence-transformers' CrossEncoder, in every form in which it states them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bertexport.errors import ExportError
from bertexport.source.checkpoint import read_json
from bertexport.source.label_activation import find_untrusted_activation, read_label_activation
from bertserve.bundle import Bundle, LabelActivation, ProblemType, open_bundle
from bertserve.engine.items import Item, Wanted
from bertserve.engine.opening import open_engine
from bertserve.tasks.finish import score_labels
from bertserve.tokenizer import Text, Tokenizer, Truncation
from checkpoints import write_checkpoint
from servers import CLASSIFIER

from .conftest import Export

pytestmark = pytest.mark.export

MODULE = "torch.nn.modules.activation"
PAIRS = [("the king went to war", "he led the army"), ("math", "the cat sat on the mat"), ("yes", "no")]

# What config.json says → what config_sentence_transformers.json says.
STATEMENTS: dict[str, tuple[dict[str, Any], dict[str, Any], LabelActivation | None]] = {
    "nothing": ({}, {}, None),
    "before 4, identity": (
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, {}, LabelActivation.IDENTITY
    ),
    "before 4, null": ({"sbert_ce_default_activation_function": None}, {}, None),
    "4, sigmoid": ({"sentence_transformers": {"activation_fn": f"{MODULE}.Sigmoid"}}, {}, LabelActivation.SIGMOID),
    "4, identity": (
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0"}}, {},
        LabelActivation.IDENTITY,
    ),
    "6, tanh": ({}, {"activation_fn": f"{MODULE}.Tanh"}, LabelActivation.TANH),
    "6 over 4": (
        {"sentence_transformers": {"activation_fn": f"{MODULE}.Sigmoid"}},
        {"activation_fn": "torch.nn.modules.linear.Identity"},
        LabelActivation.IDENTITY,
    ),
    "short name": ({"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, {}, LabelActivation.TANH),
    "code of its own": ({"sentence_transformers": {"activation_fn": "own.Scale"}}, {}, None),
}  # fmt: skip


def write_ranker(directory: Path, config: dict[str, Any], sentence: dict[str, Any], labels: tuple[str, ...]) -> Path:
    checkpoint = write_checkpoint(directory, ["sequence_classification"], labels=labels, **config)
    if sentence:
        (checkpoint / "config_sentence_transformers.json").write_text(json.dumps(sentence), encoding="utf-8")
        (checkpoint / "modules.json").write_text("[]", encoding="utf-8")
    return checkpoint


def scores_of(bundle: Bundle, pairs: list[tuple[str, str]]) -> list[list[float]]:
    """As the server makes them, each pair's in the order of the labels."""
    tokenizer, engine = Tokenizer(bundle.tokenizer_path, bundle.model), open_engine(bundle, threads=1)
    texts = tokenizer.tokenize([Text(text=a, text_pair=b) for a, b in pairs], Truncation.ERROR)
    wanted = Wanted(classify=True)
    items = [Item(input_ids=t.input_ids, token_type_ids=t.token_type_ids, wanted=wanted) for t in texts]
    labels = [score_labels(bundle.model, outputs.class_logits) for outputs in engine.run_items(items)]
    return [[label.score for label in sorted(one, key=lambda label: label.index)] for one in labels]


@pytest.mark.parametrize(("config", "sentence", "expected"), STATEMENTS.values(), ids=STATEMENTS)
def test_the_stated_activation_is_read(
    config: dict[str, Any], sentence: dict[str, Any], expected: LabelActivation | None, tmp_path: Path
) -> None:
    """From the file and key of every version; the newest file wins, as in the library."""
    checkpoint = write_ranker(tmp_path / "checkpoint", config, sentence, ("relevance",))
    assert read_label_activation(checkpoint, read_json(checkpoint / "config.json")) == expected


@pytest.mark.parametrize("name", ["nothing", "before 4, identity", "4, sigmoid", "code of its own"])
def test_scores_are_those_of_the_library(name: str, tmp_path: Path, export: Export) -> None:
    """CrossEncoder.predict on the folder that was exported."""
    library = pytest.importorskip("sentence_transformers", reason="needs the extra [reference]")
    checkpoint = write_ranker(tmp_path / "checkpoint", STATEMENTS[name][0], {}, ("relevance",))
    expected = library.CrossEncoder(str(checkpoint), device="cpu").predict(PAIRS)
    found = np.array(scores_of(export(checkpoint), PAIRS))[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_are_those_of_a_folder_that_the_library_saved(tmp_path: Path, export: Export) -> None:
    """With the activation that it was given."""
    library = pytest.importorskip("sentence_transformers", reason="needs the extra [reference]")
    checkpoint = write_ranker(tmp_path / "checkpoint", {}, {}, ("relevance",))
    library.CrossEncoder(str(checkpoint), device="cpu", activation_fn=torch.nn.Tanh()).save_pretrained(
        str(tmp_path / "saved")
    )
    expected = library.CrossEncoder(str(tmp_path / "saved"), device="cpu").predict(PAIRS)
    bundle = export(tmp_path / "saved")
    assert bundle.model.label_activation is LabelActivation.TANH
    np.testing.assert_allclose(np.array(scores_of(bundle, PAIRS))[:, 0], expected, atol=1e-5)


def test_scores_of_several_labels_are_those_of_the_library(tmp_path: Path, export: Export) -> None:
    """A folder that the library saved itself states Identity for three labels; its scores are the logits."""
    library = pytest.importorskip("sentence_transformers", reason="needs the extra [reference]")
    checkpoint = write_ranker(tmp_path / "checkpoint", {}, {}, ("entailment", "neutral", "contradiction"))
    encoder = library.CrossEncoder(str(checkpoint), device="cpu")
    encoder.save_pretrained(str(tmp_path / "saved"))
    bundle = export(tmp_path / "saved")
    assert bundle.model.label_activation is LabelActivation.IDENTITY
    np.testing.assert_allclose(scores_of(bundle, PAIRS), encoder.predict(PAIRS), atol=1e-4)


def test_an_activation_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    """By the file, the key, and the activations that are."""
    config = {"sentence_transformers": {"activation_fn": f"{MODULE}.Softplus"}}
    with pytest.raises(ExportError, match=r"sentence_transformers.activation_fn is .*Softplus.*supported: torch.nn"):
        read_label_activation(tmp_path, config)
    with pytest.raises(ExportError, match="a name is needed"):
        read_label_activation(tmp_path, {"sentence_transformers": {"activation_fn": 3}})


def test_an_activation_of_the_checkpoints_own_code_is_named(tmp_path: Path) -> None:
    """The library scores without it, too, unless it is told to trust the code."""
    config = {"sentence_transformers": {"activation_fn": "own.Scale"}}
    assert find_untrusted_activation(tmp_path, config) == "own.Scale"
    assert find_untrusted_activation(tmp_path, {}) is None


def test_bundles_of_before_answer_their_probability_as_score() -> None:
    """0.1.0 stated no activation: a score is the probability, and the logit of what it called a regression."""
    facts = open_bundle(CLASSIFIER).model
    logits = np.array([1.5, -0.5], np.float32)
    assert [label.score for label in score_labels(facts, logits)] == [
        label.probability for label in score_labels(facts, logits)
    ]
    regression = facts.model_copy(update={"labels": ("stars",), "problem_type": ProblemType.REGRESSION})
    (label,) = score_labels(regression, np.array([3.5], np.float32))
    assert (label.probability, label.score, label.logit) == (0.0, 3.5, 3.5)
