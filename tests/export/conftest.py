"""Exports of tiny checkpoints, in this process and as the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from bertexport.command import app
from bertexport.export import ExportResult, export_checkpoint
from bertexport.interruption import SIGNALS
from bertexport.request import ExportRequest
from bertexport.source.reader import SourceModel, read_source
from bertserve.bundle import Bundle, read_bundle
from bertserve.engine.contract import Engine
from bertserve.engine.opening import open_engine
from bertserve.tokenizer import Text
from checkpoints import write_checkpoint
from huggingface_hub.utils import close_session

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


Describe = Callable[[Path], SourceModel]


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Read a checkpoint as an export does first, without PyTorch and ONNX: facts, notes, weights and tokenizer.

    The tokenizer lies in `tmp_path/described`.
    """

    def read(checkpoint: Path) -> SourceModel:
        request = ExportRequest(model=str(checkpoint), output=tmp_path / "bundle")
        staging = tmp_path / "described"
        staging.mkdir(exist_ok=True)
        return read_source(request, [Text(text="the cat sat on the mat")], staging, SilentSteps())

    return read


RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Put the handlers of signals back that the block, or the command within it, replaces."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def call_command(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Run `bertexport` to its end in this process, where PyTorch is already loaded."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with kept_handlers(), pytest.raises(SystemExit) as ended:
            app([*map(str, arguments)], prog_name="bertexport")
        written = capsys.readouterr()
        status = ended.value.code
        assert isinstance(status, int)
        return subprocess.CompletedProcess(arguments, status, written.out, written.err)

    return call


@pytest.fixture
def reach_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Let exports in this process see the hub at an endpoint and a cache of the test's own, at first no hub at all.

    The hub's client reads the environment once, when it is imported.
    """

    def reach(endpoint: str) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        )

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    reach(NO_HUB)
    yield reach
    close_session()


@pytest.fixture
def run_command(tmp_path: Path) -> RunCommand:
    """Run the installed `bertexport` to its end, without a terminal, seeing no hub but what `environment` names."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("bertexport"), *map(str, arguments)],
            env=command_environment(tmp_path, **environment),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


# The port to which nobody listens.
NO_HUB = "http://127.0.0.1:9"


def command_environment(home: Path, **environment: str) -> dict[str, str]:
    """Of a process that finds no cached download and reaches nothing beyond this machine."""
    return {
        **os.environ,
        "HF_HOME": str(home / "hub-cache"),
        "HF_ENDPOINT": NO_HUB,
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
