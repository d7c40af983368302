"""The picture: a panel per word, a dot per sentence, a colour per sense, and the one place of a static table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

PANEL_INCHES = 3.2
DOTS_PER_INCH = 100
COLOURS = ("tab:blue", "tab:orange", "tab:green")


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """points: [sentences, 2], centred on their mean; belongs: the sense of each, an index into `senses`."""

    word: str
    senses: tuple[str, ...]
    points: NDArray[np.float32]
    belongs: tuple[int, ...]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """PNG of 320 pixels a panel, in one row."""
    figure = Figure(figsize=(PANEL_INCHES * len(panels), PANEL_INCHES), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for place, sense in enumerate(panel.senses):
            points = panel.points[np.equal(panel.belongs, place)]
            axis.scatter(points[:, 0], points[:, 1], color=COLOURS[place], label=sense)
        axis.scatter(0, 0, marker="*", s=120, color="black", label="static: one place")
        axis.set_title(panel.word)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.legend(fontsize="x-small")
    figure.savefig(path, dpi=DOTS_PER_INCH)
