"""The autoscaler's metric over time, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bertbench.autoscaling.trial import METRIC, TARGET_SECONDS, Moment


def plot_moments(path: Path, moments: Sequence[Moment]) -> None:
    """A PNG: the metric, its target, and when there was load."""
    # Takes a second to import: not for --help.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    loaded = [moment.seconds for moment in moments if moment.is_loaded]
    axes.axvspan(loaded[0], loaded[-1], color="C0", alpha=0.12, label="load")
    axes.step([moment.seconds for moment in moments], [moment.wait for moment in moments], where="post", label=METRIC)
    axes.axhline(TARGET_SECONDS, color="C1", linestyle="--", label="the autoscaler's target")
    axes.set_xlabel("seconds")
    axes.set_ylabel("seconds of wait")
    axes.legend()
    figure.savefig(path, dpi=120)
