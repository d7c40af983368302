"""`Classify` for every kind of head, over gRPC, is what `transformers` answers in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bertapi.client import BertClient
from bertexport.export import export_checkpoint
from bertexport.request import ExportRequest
from checkpoints import write_checkpoint
from servers import running_server

from .conftest import SilentSteps

pytestmark = pytest.mark.export

# Name of a head → what its checkpoint says of it.
KINDS: dict[str, dict[str, Any]] = {
    "single": {"labels": ("bad", "fair", "good"), "problem_type": "single_label_classification"},
    "unstated": {"labels": ("no", "yes")},
    "multi": {"labels": ("toxic", "rude", "off-topic"), "problem_type": "multi_label_classification"},
    "regression": {"labels": ("stars",), "problem_type": "regression"},
    "lone": {"labels": ("relevance",)},
    "regressions": {"labels": ("valence", "arousal"), "problem_type": "regression"},
}
TEXTS: list[str | tuple[str, str]] = ["the cat sat on the mat", "math", ("is it new", "yes it is"), ("empty", "")]


@dataclass(frozen=True)
class Case:
    """A served head, and the checkpoint that it was exported from. name: of KINDS."""

    name: str
    client: BertClient
    checkpoint: Path

    @property
    def is_regression(self) -> bool:
        return self.name.startswith("regression")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server of one bundle a kind, and the folder of their checkpoints."""
    folder = tmp_path_factory.mktemp("heads")
    texts = folder / "texts.tsv"
    texts.write_text("the cat sat on the mat\nyes\tno\n", encoding="utf-8")
    for seed, (name, options) in enumerate(KINDS.items()):
        checkpoint = write_checkpoint(folder / "checkpoints" / name, ["sequence_classification"], seed=seed, **options)
        request = ExportRequest(model=str(checkpoint), output=folder / "bundles" / name, verify=texts)
        request.output.parent.mkdir(exist_ok=True)
        export_checkpoint(request, SilentSteps())
    with running_server(*(folder / "bundles" / name for name in KINDS)) as server:
        yield server.target, folder / "checkpoints"


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, heads: tuple[str, Path]) -> Iterator[Case]:
    target, checkpoints = heads
    with BertClient(target, model=request.param) as client:
        yield Case(request.param, client, checkpoints / request.param)


def test_logits_are_pytorchs(case: Case) -> None:
    """Every label's, for texts and pairs."""
    model = transformers.BertForSequenceClassification.from_pretrained(case.checkpoint, attn_implementation="eager")
    tokenizer = transformers.AutoTokenizer.from_pretrained(case.checkpoint)
    for text, found in zip(TEXTS, case.client.classify(TEXTS), strict=True):
        # As a list: on its own, an empty second text is no pair to `transformers`.
        encoded = tokenizer([text], return_tensors="pt", truncation=False, padding=False)
        with torch.inference_mode():
            expected = model.eval()(**encoded).logits[0].numpy()
        logits = {score.index: score.logit for score in found.labels}
        np.testing.assert_allclose([logits[index] for index in range(len(expected))], expected, atol=1e-4)
        assert [score.label for score in found.labels] == [
            KINDS[case.name]["labels"][index] for index in np.argsort(-expected, kind="stable")
        ]


def test_scores_are_the_pipelines(case: Case) -> None:
    """A softmax where one label is right, a sigmoid each where several may be and for a lone label, and the number
    itself for a regression, which alone has no probability."""
    pipeline = transformers.pipeline("text-classification", str(case.checkpoint), device="cpu")
    for text, found in zip(TEXTS, case.client.classify(TEXTS), strict=True):
        given = {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
        if isinstance(text, tuple) and not text[1]:
            continue
        expected = {answer["label"]: answer["score"] for answer in pipeline(given, top_k=None)}
        for label in found.labels:
            assert label.score == pytest.approx(expected[label.label], abs=1e-5)
            assert label.probability == (0 if case.is_regression else label.score)


def test_bertcall_shows_what_a_head_answers(
    case: Case, heads: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores, and probabilities where there are any."""
    from bertapi.command import main

    assert main(["classify", "the cat", "--target", heads[0], "--model", case.name]) == 0
    titles = capsys.readouterr().out.split("\n")[0].split()
    assert ("probability" in titles, "score" in titles) == (not case.is_regression, True)
