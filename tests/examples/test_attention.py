"""Attention maps, and their picture."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from attention import draw, read_attention
from checkpoints import write_checkpoint
from matplotlib import image

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("one_thread")]

RunExample = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    """Before and after fine-tuning: two layers of four heads each, with other heads on top."""
    after = write_checkpoint(tmp_path / "after", ("sequence_classification",), seed=1)
    return [write_checkpoint(tmp_path / "before"), after]


def test_maps_are_distributions_over_the_tokens_of_the_pair(checkpoints: list[Path]) -> None:
    """Two layers of four heads; what a token looks at sums to one."""
    attention = read_attention(checkpoints[0], "the cat sat", "on the mat")
    assert attention.tokens == ("[CLS]", "the", "cat", "sat", "[SEP]", "on", "the", "mat", "[SEP]")
    assert attention.maps.shape == (2, 4, 9, 9)
    assert attention.maps.sum(axis=-1) == pytest.approx(1, abs=1e-5)


def test_draws_a_map_per_head(checkpoints: list[Path], tmp_path: Path) -> None:
    """160 pixels a map, 80 pixels for the title."""
    draw([read_attention(checkpoints[0], "the cat sat", "on the mat")], tmp_path / "attention.png")
    assert image.imread(tmp_path / "attention.png").shape[:2] == (2 * 160 + 80, 4 * 160)


@pytest.mark.slow
def test_script_draws_two_checkpoints_side_by_side(
    checkpoints: list[Path], tmp_path: Path, run_example: RunExample
) -> None:
    """Before and after: a block each; not a blank sheet."""
    path = tmp_path / "attention.png"
    run_example("attention/attention.py", *checkpoints, "-o", path)
    pixels = image.imread(path)
    assert pixels.shape[:2] == (2 * 160 + 80, 2 * 4 * 160)
    assert pixels[..., :3].std() > 0.05
