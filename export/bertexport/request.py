"""What an export is asked for, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """model: local directory or hub id. precision: its name in `PRECISIONS`. verify, calibration: files of texts, in
    place of the built-in ones. allow_accuracy_loss: write a bundle that misses its gates, in int8 throughout. force:
    replace output.
    """

    model: str
    output: Path
    precision: str = "fp32"
    revision: str | None = None
    verify: Path | None = None
    calibration: Path | None = None
    allow_accuracy_loss: bool = False
    force: bool = False


class Progress(Protocol):
    """Shows steps as they run."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Callable[[], None]]:
        """Enter a step of `total` parts, of unknown number where None; the value advances it by one."""
