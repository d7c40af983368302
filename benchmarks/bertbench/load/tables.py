"""Summaries as tables for a terminal, and as JSON for a program."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from bertbench.errors import BenchError
from bertbench.load.summary import Percentiles, Summary


def summary_table(title: str, summary: Summary) -> Table:
    """One run in full."""
    table = Table(title=title, show_header=False, title_justify="left")
    asked = "closed loop" if summary.asked_rate is None else f"{summary.asked_rate:,.1f} asked"
    table.add_row("calls a second", f"{summary.answered_rate:,.1f} answered, {summary.sent_rate:,.1f} sent, {asked}")
    table.add_row(
        "answered a second", f"{summary.texts_per_second:,.1f} texts, {summary.tokens_per_second:,.0f} tokens"
    )
    table.add_row("latency", f"{_spread(summary.latency)}, from when each call was due")
    table.add_row("p99 of all calls", f"{seconds_text(summary.strict_p99)}, one without an answer counting as endless")
    table.add_row("statuses", statuses_text(summary.statuses))
    for name, kind in summary.kinds.items() if len(summary.kinds) > 1 else ():
        table.add_row(
            name,
            f"{_spread(kind.latency)}; {statuses_text(kind.statuses)}",
        )
    table.add_row("sent late by", f"p99 {seconds_text(summary.lag.p99)}, at most {seconds_text(summary.lag.max)}")
    table.add_row(
        "generator's CPU", f"{summary.client_cpu_cores:.2f} cores, {summary.client_cpu_micros:,.0f} µs a call"
    )
    if summary.server is not None:
        table.add_row(
            "server",
            f"{summary.server.cpu_cores:.2f} cores, {summary.server.rss_bytes / 1e6:,.0f} MB; "
            f"{summary.server.busy_lanes:.2f} lanes busy, {summary.server.engine_tokens_per_second:,.0f} tokens/s run",
        )
    return table


def rates_table(title: str, summaries: Sequence[Summary]) -> Table:
    """Several runs, a line each. Of all: the p99 of all calls, where one without an answer took for ever."""
    table = Table(title=title, title_justify="left")
    for column in ("asked/s", "answered/s", "tokens/s", "p50", "p99", "of all"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("statuses")
    for summary in summaries:
        latency = summary.latency
        table.add_row(
            "closed" if summary.asked_rate is None else f"{summary.asked_rate:,.1f}",
            f"{summary.answered_rate:,.1f}",
            f"{summary.tokens_per_second:,.0f}",
            *map(seconds_text, (latency.p50, latency.p99, summary.strict_p99)),
            statuses_text(summary.statuses),
        )
    return table


def seconds_text(seconds: float) -> str:
    """Milliseconds below a second, to three digits or so; a dash where nothing was measured."""
    if math.isnan(seconds):
        return "–"
    if math.isinf(seconds):
        return "∞"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.{1 if milliseconds < 100 else 0}f} ms"


def statuses_text(statuses: Mapping[str, int]) -> str:
    """The counts, the most frequent first."""
    return ", ".join(f"{name} {count:,}" for name, count in statuses.items()) or "no calls"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write figures; what is no number in JSON, a percentile of nothing or an endless one, is null."""
    try:
        path.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{path}: cannot be written ({error.strerror})") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _spread(latency: Percentiles) -> str:
    return ", ".join(f"{name} {seconds_text(value)}" for name, value in asdict(latency).items())
