"""How much memory an export takes, measured by the system, beyond what any export takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import VOCABULARY, write_checkpoint

from .conftest import command_environment

pytestmark = [pytest.mark.export, pytest.mark.slow]

KIB = 1024
# Of the checkpoint's size in fp32.
LIMIT = 2.5
# 252 MB in five layers as BERT-large has them.
LARGE = {"hidden_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 16, "intermediate_size": 4096}


def peak_bytes(checkpoint: Path, output: Path, texts: Path) -> int:
    """The most memory that exporting the checkpoint had in use at a time."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bertexport", str(checkpoint), "-o", str(output), "--verify", str(texts)],
        env=command_environment(output.parent),
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * KIB


def test_an_export_takes_no_more_than_a_few_times_the_checkpoint(tmp_path: Path, brief_texts: Path) -> None:
    """The graph, PyTorch's model and whatever lies between them, over the export of a model of no size."""
    assert len(VOCABULARY) < 1000
    small, large = write_checkpoint(tmp_path / "small"), write_checkpoint(tmp_path / "large", **LARGE)
    size = (large / "model.safetensors").stat().st_size
    assert size > 250_000_000
    nothing = peak_bytes(small, tmp_path / "small.bundle", brief_texts)
    assert peak_bytes(large, tmp_path / "large.bundle", brief_texts) - nothing <= LIMIT * size
