"""Latency over rate, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bertbench.load.summary import Summary


def plot_latency(path: Path, curves: Mapping[str, Sequence[Summary]]) -> None:
    """A PNG: p50 and p99 of answered calls over calls a second, due or in a closed loop answered."""
    # Takes a second to import: not for --help.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for index, (name, summaries) in enumerate(curves.items()):
        points = sorted(summaries, key=_rate)
        rates = [_rate(point) for point in points]
        for percentile, style in (("p50", "--o"), ("p99", "-o")):
            milliseconds = [getattr(point.latency, percentile) * 1000 for point in points]
            axes.plot(rates, milliseconds, style, color=f"C{index}", label=f"{name} {percentile}".strip())
    axes.set_xlabel("calls a second")
    axes.set_ylabel("milliseconds from due to answered")
    axes.set_yscale("log")
    axes.grid(visible=True, which="both", alpha=0.3)
    # Above the axes: inside it would lie on some curve.
    figure.legend(loc="outside upper left", ncols=min(3, len(curves)), fontsize="small")
    figure.savefig(path, dpi=150)


def _rate(summary: Summary) -> float:
    return summary.answered_rate if summary.asked_rate is None else summary.asked_rate
