"""The evaluation command: a checkpoint and a server that serves it give the same figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoint_source import CheckpointSource
from checkpoints import write_checkpoint
from evaluate import AS_TRAINED
from questions import MaskedText, Passage, PassagePair
from server_source import ServerSource
from servers import running_server
from sources import EvaluationError

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("one_thread")]

RunExample = Callable[..., subprocess.CompletedProcess[str]]

SCRIPT = "pretrain/evaluate.py"
TEXTS = ["jumping dogs walked over sleeping cats", "leibniz developed calculus, newton wanted painted houses"]
SMALL = ("--masked-pairs", "40", "--next-pairs", "60", "--sentences", "10")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("evaluated") / "checkpoint")


@pytest.fixture(scope="module")
def target(checkpoint: Path) -> Iterator[str]:
    """A server of that checkpoint's bundle."""
    bundle = checkpoint.with_name("bundle")
    verify = checkpoint.with_name("texts.tsv")
    verify.write_text("the [MASK] sat on the mat\nthe cat sat\ton the [MASK]\n")
    command = [sys.executable, "-m", "bertexport", checkpoint, "-o", bundle, "--verify", verify]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with running_server(bundle) as server:
        yield server.target


@pytest.fixture(scope="module")
def wikitext(articles: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wikitext") / "toy.tokens"
    marked = [[" ".join(p.replace(".", " .").split()) for p in article] for article in articles]
    path.write_text("\n".join(" = Toy = \n" + "\n".join(f" {p} " for p in article) for article in marked))
    return path


@pytest.fixture(scope="module")
def many_articles(articles_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough that three are held out."""
    path = tmp_path_factory.mktemp("articles") / "many.txt"
    path.write_text("\n".join([articles_file.read_text()] * 7))
    return path


def figures(run: subprocess.CompletedProcess[str]) -> Any:
    return [report["model"] for report in json.loads(run.stdout)]


@pytest.mark.slow
def test_checkpoint_and_server_agree(
    run_example: RunExample, checkpoint: Path, target: str, wikitext: Path, many_articles: Path
) -> None:
    """Every count is equal, and perplexities to six digits, on both kinds of text."""
    texts = ("--wikitext", wikitext, "--articles", many_articles, *SMALL, "--json")
    (of_checkpoint, *_), (of_server, *_) = (
        figures(run_example(SCRIPT, *source, *texts)) for source in (("--checkpoint", checkpoint), ("--target", target))
    )
    assert of_checkpoint.keys() - of_server.keys() == {AS_TRAINED}
    for name, answered in of_server.items():
        assert answered == pytest.approx(of_checkpoint[name], rel=1e-6), name


@pytest.mark.slow
def test_table_names_every_figure(run_example: RunExample, checkpoint: Path, wikitext: Path) -> None:
    """Model and unigram side by side, for tokens, whole words, pairs and perplexity."""
    run = run_example(SCRIPT, "--checkpoint", checkpoint, "--wikitext", wikitext, *SMALL)
    named = ("top 1", "top 5", "accuracy", "pseudo", "unigram", "60 pairs")
    assert not [name for name in named if name not in run.stdout]


@pytest.mark.slow
def test_sources_answer_alike(checkpoint: Path, target: str) -> None:
    """The same tokens with the same offsets, the same guesses in the same order, the same scores."""
    questions = [
        MaskedText("the [MASK] sat on the mat", None, ("cat",), ()),
        MaskedText("calculus is a [MASK] of math", "it [MASK] develop[MASK]", ("branch", "was", "##ed"), ()),
    ]
    pairs = [("the cat sat", "on the mat"), ("why did they come", "they want bread"), ("go home", "now")]
    texts = ["Calculus, developed by Newton!", "the [UNK] caf\u00e9"]
    ours = CheckpointSource(checkpoint)
    with ServerSource(target) as theirs:
        assert theirs.tokenize(texts) == ours.tokenize(texts)
        assert theirs.score_next(pairs) == pytest.approx(ours.score_next(pairs), abs=1e-5)
        answers = [[guess for of_one in source.fill(questions) for guess in of_one] for source in (ours, theirs)]
    assert [guess.top for guess in answers[0]] == [guess.top for guess in answers[1]]
    log_probabilities = [[guess.answer_log_probability for guess in of_source] for of_source in answers]
    assert log_probabilities[0] == pytest.approx(log_probabilities[1], abs=1e-4)


def test_asking_as_trained_asks_single_tokens_by_their_ids(checkpoint: Path) -> None:
    """About 15 % of the tokens, pieces inside words included, each with a guess of its own."""
    model = CheckpointSource(checkpoint)
    (first, second) = (Passage(text, tuple(tokens)) for text, tokens in zip(TEXTS, model.tokenize(TEXTS), strict=True))
    guesses, answers = model.fill_as_trained([PassagePair(first, second, is_next=True)] * 50, seed=1)
    known = [token.text for token in (*first.tokens, *second.tokens)]
    assert [len(of_one) for of_one in guesses] == [len(of_one) for of_one in answers]
    assert 0.1 < sum(map(len, answers)) / (50 * len(known)) < 0.2
    assert {answer for of_one in answers for answer in of_one} <= set(known)
    assert any(answer.startswith("##") for of_one in answers for answer in of_one)


def test_checkpoint_without_a_next_sentence_head_is_refused(tmp_path: Path) -> None:
    """Its figures would be those of random weights."""
    checkpoint = write_checkpoint(tmp_path / "half", ("masked_lm",))
    with pytest.raises(EvaluationError, match="seq_relationship"):
        CheckpointSource(checkpoint)


@pytest.mark.slow
def test_what_the_server_refuses_ends_the_evaluation(target: str) -> None:
    """In the server's own words."""
    with ServerSource(target, "none") as source, pytest.raises(EvaluationError, match="no such model; served here: "):
        source.tokenize(["a"])


def test_a_text_that_is_missing_is_one_line(run_example: RunExample, checkpoint: Path, tmp_path: Path) -> None:
    """Found out before a model is loaded."""
    run = run_example(SCRIPT, "--checkpoint", checkpoint, "--wikitext", tmp_path / "none", check=False)
    assert run.returncode == 1
    assert run.stderr == f"evaluate.py: [Errno 2] No such file or directory: '{tmp_path / 'none'}'\n"


@pytest.mark.slow
def test_needs_two_articles(run_example: RunExample, checkpoint: Path, articles_file: Path) -> None:
    """A false pair takes its second text from another article; of so few, only one is held out."""
    run = run_example(SCRIPT, "--checkpoint", checkpoint, "--articles", articles_file, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("evaluate.py: held-out articles of articles.txt: 1 articles;")


def test_needs_a_text(run_example: RunExample, checkpoint: Path) -> None:
    """Neither --wikitext nor --articles: a usage error that says so."""
    run = run_example(SCRIPT, "--checkpoint", checkpoint, check=False)
    assert run.returncode == 2
    assert "give --wikitext, --articles, or both" in run.stderr
