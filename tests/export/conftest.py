"""Exports of tiny checkpoints, in this process and as the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from bertexport.export import ExportResult, export_checkpoint
from bertexport.request import ExportRequest
from bertserve.bundle import Bundle, read_bundle
from bertserve.engine.contract import Engine
from bertserve.engine.opening import open_engine
from checkpoints import write_checkpoint

ALL_HEADS = ("masked_lm", "next_sentence", "sequence_classification")

# A few lengths, a mask and a pair: enough where a test does its own comparing.
BRIEF_TEXTS = "calculus is a [MASK] of math\tit [MASK] developed by newton and leibniz\nthe cat sat on the mat\nyes\n"

# Matrices this small only lose by being shared between threads.
torch.set_num_threads(1)


class SilentSteps:
    """Shows nothing."""

    @contextmanager
    def step(self, *_: object) -> Iterator[Callable[[], None]]:
        yield lambda: None


Export = Callable[..., Bundle]


@pytest.fixture(scope="session")
def brief_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.tsv"
    path.write_text(BRIEF_TEXTS, encoding="utf-8")
    return path


@pytest.fixture
def export(tmp_path: Path, brief_texts: Path) -> Export:
    """Export a checkpoint to `tmp_path/bundle`, verified on a few texts, and read the bundle back."""

    def run(checkpoint: Path | str, output: Path = tmp_path / "bundle", **options: object) -> Bundle:
        options = {"verify": brief_texts, **options}
        export_checkpoint(ExportRequest(model=str(checkpoint), output=output, **options), SilentSteps())
        return read_bundle(output)

    return run


@pytest.fixture(scope="session")
def full_export(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportResult]:
    """A checkpoint with every head, exported and verified on the built-in texts: the bundle's path and the result."""
    directory = tmp_path_factory.mktemp("full")
    checkpoint = write_checkpoint(directory / "checkpoint", ALL_HEADS)
    result = export_checkpoint(ExportRequest(model=str(checkpoint), output=directory / "bundle"), SilentSteps())
    return directory / "bundle", result


@pytest.fixture(scope="session")
def full_engine(full_export: tuple[Path, ExportResult]) -> Engine:
    return open_engine(read_bundle(full_export[0]), threads=1)


RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_command(tmp_path: Path) -> RunCommand:
    """Run `bertexport` to its end, without a terminal, seeing no hub but what `environment` names."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bertexport", *map(str, arguments)],
            env=command_environment(tmp_path, **environment),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


def command_environment(home: Path, **environment: str) -> dict[str, str]:
    """Of a process that finds no cached download and reaches nothing beyond this machine."""
    return {
        **os.environ,
        "HF_HOME": str(home / "hub-cache"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
