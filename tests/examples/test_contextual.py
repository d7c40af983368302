"""One word in two senses: vectors from a running server, figures, and their picture."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bertapi.client import BertClient
from matplotlib import image
from senses import Figures, compare, contextual_vectors, find, project, static_vector
from sentences import SENSES
from servers import RunningServer

pytestmark = pytest.mark.export

RunExample = Callable[..., subprocess.CompletedProcess[str]]


def test_vectors_of_two_senses_compare_as_they_point() -> None:
    """Two right angles apart: each one's nearest has its sense."""
    vectors = np.array([[1, 0], [2, 0], [0, 1], [0, 3]], dtype=np.float32)
    assert compare(vectors, [0, 0, 1, 1]) == Figures(nearest=1.0, same=1.0, other=0.0)


def test_one_vector_for_all_is_a_coin_toss() -> None:
    """A static table: every other sentence is as near."""
    vectors = np.ones((6, 3), dtype=np.float32)
    figures = compare(vectors, [0, 0, 0, 1, 1, 1])
    assert (figures.nearest, figures.same, figures.other) == (0.5, pytest.approx(1), pytest.approx(1))


def test_projection_keeps_what_differs_most() -> None:
    """Points on a line in space stay on a line, at their distances."""
    along = np.array([0.0, 1.0, 5.0, 6.0], dtype=np.float32)
    points = project(np.stack([along * 0.6, along * 0.8, np.ones(4)], axis=1).astype(np.float32))
    assert np.abs(points[:, 0] - points[0, 0]) == pytest.approx(along, abs=1e-5)
    assert points[:, 1] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("word", SENSES)
def test_each_sentence_holds_its_word_once(word: str) -> None:
    """Two senses, as many sentences of each."""
    first, second = SENSES[word].values()
    assert len(first) == len(second)
    assert all(find(word, sentence) for sentence in (*first, *second))


def test_word_that_is_not_there_is_refused() -> None:
    """Nor may it stand there twice."""
    with pytest.raises(ValueError, match="'bank' should stand once"):
        find("bank", "a bank beside a bank")


def test_word_has_one_static_and_many_contextual_vectors(server: RunningServer) -> None:
    """Three sentences, three vectors; by itself, one; a word of several pieces has the mean of theirs."""
    sentences = ["the bank was cold", "they left the bank", "zebras at the bank"]
    with BertClient(server.target) as client:
        vectors = contextual_vectors(client, "bank", sentences, layer=-1)
        assert vectors.shape == (3, static_vector(client, "bank").size)
        assert min(np.abs(a - b).max() for a, b in ((vectors[0], vectors[1]), (vectors[1], vectors[2]))) > 1e-3
        pieces = client.embed("zebras", pooling="none", layers=[0], include_tokens=True)[0]
        assert len(pieces.tokens) > 3
        assert static_vector(client, "zebras") == pytest.approx(pieces.vectors[1:-1].mean(axis=0), abs=1e-6)


def test_script_draws_a_panel_per_word(server: RunningServer, tmp_path: Path, run_example: RunExample) -> None:
    """320 pixels each, in a row; the table names every word."""
    path = tmp_path / "senses.png"
    run = run_example("contextual/senses.py", "--target", server.target, "-o", path)
    pixels = image.imread(path)
    assert pixels.shape[:2] == (320, 320 * len(SENSES))
    assert pixels[..., :3].std() > 0.05
    assert all(word in run.stdout for word in SENSES)
