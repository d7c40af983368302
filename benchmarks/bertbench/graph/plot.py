"""The report as a picture: a bar for each contestant and shape, the ceilings as lines above their graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bertbench.graph.findings import Row, rows
from bertbench.graph.report import Figure, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUP_WIDTH = 0.8
GRAPH_COLORS = ("#1b5e9c", "#d1495b", "#2e8b57", "#8d5fd3")
BASELINE_COLORS = ("#b8bec6", "#949ca6", "#d9d2c5", "#c6bba6")


def draw_plot(report: Report, path: Path) -> None:
    """Write an image; its suffix says which kind."""
    # Slow to import, and rarely asked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    shaped = rows(report.shaped)
    picture = Picture(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.add_subplot()
    for place, row in enumerate(shaped):
        _draw_group(axes, place, row, labelled=place == 0)
    axes.set_xticks(range(len(shaped)), [row.graphs[0].shape.name for row in shaped])
    axes.set_ylabel("tokens/s (padding not counted)")
    axes.set_title(f"{report.machine.processor}, {report.machine.cores} cores, {report.started[:10]}", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    picture.legend(loc="outside right upper", frameon=False, fontsize="small")
    picture.savefig(path, dpi=120)


def _draw_group(axes: Axes, place: int, row: Row, labelled: bool) -> None:
    contestants: list[tuple[Figure, str]] = [
        *zip(row.graphs, GRAPH_COLORS, strict=False),
        *zip(row.baselines, BASELINE_COLORS, strict=False),
    ]
    width = GROUP_WIDTH / len(contestants)
    for number, (figure, color) in enumerate(contestants):
        left = place - GROUP_WIDTH / 2 + number * width
        label = _label(figure) if labelled else ""
        axes.bar(left, figure.rates.median, width * 0.95, align="edge", color=color, label=label)
        if ceiling := row.ceilings.get(figure.contestant):
            label = _label(ceiling) if labelled else ""
            axes.hlines(ceiling.rates.median, left, left + width * 0.95, color=color, linewidth=2, label=label)


def _label(figure: Figure) -> str:
    return f"{figure.contestant}, {figure.arrangement}"
