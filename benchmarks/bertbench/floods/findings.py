"""What floods showed, as a table for a terminal and as JSON for a program. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from bertbench.floods.measure import FloodRun
from bertbench.load.tables import seconds_text

MEDIAN, TAIL = 0.5, 0.99


def floods_table(runs: Sequence[FloodRun]) -> Table:
    """A line for each flood and server."""
    table = Table(title="Floods, and a small caller beside them", title_justify="left")
    table.add_column("flood")
    table.add_column("server")
    for column in ("peak above idle", "p50 alone", "p99 alone", "p50", "p99", "failed", "newcomer p50", "failed"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(
            run.flood, run.server, f"{run.peak_bytes / 1e6:,.0f} MB",
            *(seconds_text(calls.percentile(share)) for calls in (run.alone, run.flooded) for share in (MEDIAN, TAIL)),
            f"{run.flooded.failed:,}", seconds_text(run.newcomers.percentile(MEDIAN)), f"{run.newcomers.failed:,}",
        )  # fmt: skip
    return table


def floods_json(runs: Sequence[FloodRun]) -> list[dict[str, Any]]:
    """Times in seconds, memory in bytes."""
    return [
        {
            "flood": run.flood,
            "server": run.server,
            "peak_bytes": run.peak_bytes,
            **{
                name: {
                    "answered": len(calls.seconds),
                    "failed": calls.failed,
                    "p50": calls.percentile(MEDIAN),
                    "p99": calls.percentile(TAIL),
                }
                for name, calls in (("alone", run.alone), ("flooded", run.flooded), ("newcomers", run.newcomers))
            },
        }
        for run in runs
    ]
