"""What each figure says, line by line, beside what it is held to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from bertbench.load.tables import seconds_text, statuses_text
from bertbench.serving.call_cost import CallCost
from bertbench.serving.cancellations import Cancellations
from bertbench.serving.memory import Memory
from bertbench.serving.neighbours import SHORT_TOKENS, Neighbours
from bertbench.serving.overload import DEADLINE_SECONDS, TIMES_SATURATION, Overload
from bertbench.serving.startup import Startup

# What a server is held to.
ANSWERED_UNDER_OVERLOAD = 0.9
REFUSAL_SECONDS = 0.02
FLAT_MEMORY = 1.05
LOAD_PEAK = 1.5
IDLE_CORES = 0.01
START_TO_READY = 3.0
CALL_TO_BARE = 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """bound: what the value is held to, empty where it is held to nothing; met: whether it is."""

    name: str
    value: str
    bound: str = ""
    met: bool | None = None


def findings_table(title: str, findings: Sequence[Finding]) -> Table:
    """A line for each."""
    table = Table(title=title, title_justify="left")
    for column in ("figure", "value", "held to", ""):
        table.add_column(column)
    for finding in findings:
        mark = {None: "", True: "✓", False: "✗"}[finding.met]
        table.add_row(finding.name, finding.value, finding.bound, mark)
    return table


def overload_findings(found: Overload) -> Iterator[Finding]:
    saturated, overloaded = found.saturated, found.overloaded
    yield Finding(name="answered a second, saturated", value=f"{saturated.answered_rate:,.1f}")
    yield Finding(name=f"asked a second, {TIMES_SATURATION} ×", value=f"{overloaded.sent_rate:,.1f}")
    yield Finding(
        name=f"answered within {DEADLINE_SECONDS:g} s ÷ saturated",
        value=f"{found.ratio:.3f} ({overloaded.answered_rate:,.1f} a second)",
    )
    yield Finding(
        name="… per core that the generator left",
        value=f"{found.corrected_ratio:.3f}",
        bound=f"≥ {ANSWERED_UNDER_OVERLOAD}",
        met=found.corrected_ratio >= ANSWERED_UNDER_OVERLOAD,
    )
    bound = found.refusal_p99_at_most
    yield Finding(
        name=f"99 % of {found.refused:,} refusals handled within",
        value="beyond the histogram" if bound is None else seconds_text(bound),
        bound=f"≤ {seconds_text(REFUSAL_SECONDS)}",
        met=bound is not None and bound <= REFUSAL_SECONDS,
    )
    yield Finding(name="let in, but not answered", value=f"{found.lost:,}", bound="0", met=found.lost == 0)
    growth = found.memory_after / found.memory_before
    yield Finding(
        name="memory after ÷ before",
        value=f"{growth:.3f} ({found.memory_after / 1e6:,.0f} MB)",
        bound=f"≤ {FLAT_MEMORY}",
        met=growth <= FLAT_MEMORY,
    )
    yield Finding(name="statuses", value=statuses_text(overloaded.statuses))
    yield Finding(name="p50, p99 of answered calls", value=_p50_p99(overloaded.latency.p50, overloaded.latency.p99))
    yield Finding(name="sent late by, p99", value=seconds_text(overloaded.lag.p99))
    yield Finding(
        name="generator's CPU, saturated and at overload",
        value=f"{saturated.client_cpu_cores:.2f}, {overloaded.client_cpu_cores:.2f} cores",
    )


def neighbours_findings(found: Neighbours) -> Iterator[Finding]:
    alone, together = found.short_alone, found.together
    yield Finding(name=f"lone pass of {found.long_tokens} tokens", value=seconds_text(found.pass_seconds))
    yield Finding(
        name="capacity, short and long alone",
        value=f"{found.short_capacity.answered_rate:,.1f}, {found.long_capacity.answered_rate:,.1f} a second",
    )
    yield Finding(name="short alone, p50 and p99", value=_p50_p99(alone.latency.p50, alone.latency.p99))
    for kind, summary in together.kinds.items():
        yield Finding(
            name=f"{kind} beside the other, p50 and p99",
            value=f"{_p50_p99(summary.latency.p50, summary.latency.p99)} of {summary.calls:,}",
        )
    yield Finding(
        name=f"p99 of ≤ {SHORT_TOKENS} tokens beside long ones",
        value=seconds_text(found.short_p99),
        bound=f"≤ {seconds_text(found.bound)}, one pass + 3 × p99 alone",
        met=found.short_p99 <= found.bound,
    )
    yield Finding(name="statuses together", value=statuses_text(together.statuses))


def cancellations_findings(found: Cancellations) -> Iterator[Finding]:
    yield Finding(
        name="calls cancelled", value=f"{found.cancelled:,} of {found.calls:,} ({found.cancelled / found.calls:.1%})"
    )
    yield Finding(name="… taken out of the queue", value=f"{found.dropped:,}")
    yield Finding(name="… in a batch, at most", value=f"{found.cancelled_in_a_batch:,}")
    yield Finding(name="tokens run, tokens answered", value=f"{found.run_tokens:,}, {found.answered_tokens:,}")
    # Texts are alike, so that calls stand for tokens: of those that ran, whose callers had left.
    bound = found.cancelled_in_a_batch / max(1, found.calls - found.dropped)
    yield Finding(
        name="tokens run for nobody",
        value=f"{found.excess_tokens:,} ({found.excess_share:.1%})",
        bound=f"about ≤ {bound:.1%}, calls cancelled in a batch",
        met=0 <= found.excess_share <= bound * 1.1,
    )


def memory_findings(found: Memory) -> Iterator[Finding]:
    yield Finding(name=f"after {found.first_requests:,} requests", value=f"{found.first_bytes / 1e6:,.0f} MB")
    yield Finding(
        name=f"after {found.all_requests:,} ÷ that",
        value=f"{found.growth:.3f} ({found.last_bytes / 1e6:,.0f} MB)",
        bound=f"≤ {FLAT_MEMORY}",
        met=found.growth <= FLAT_MEMORY,
    )
    yield Finding(
        name="peak of loading ÷ that",
        value=f"{found.peak_ratio:.3f} ({found.load_peak_bytes / 1e6:,.0f} MB)",
        bound=f"≤ {LOAD_PEAK}",
        met=found.peak_ratio <= LOAD_PEAK,
    )
    yield Finding(
        name="idle, share of a core",
        value=f"{found.idle_cores:.2%}",
        bound=f"≤ {IDLE_CORES:.0%}",
        met=found.idle_cores <= IDLE_CORES,
    )


def startup_findings(found: Startup) -> Iterator[Finding]:
    yield Finding(name="reading the files and creating the session", value=seconds_text(median(found.load)))
    yield Finding(name="start to ready", value=seconds_text(median(found.ready)))
    yield Finding(
        name="ratio",
        value=f"{found.ratio:.2f}",
        bound=f"≤ {START_TO_READY:g}",
        met=found.ratio <= START_TO_READY,
    )


def _p50_p99(p50: float, p99: float) -> str:
    return f"{seconds_text(p50)}, {seconds_text(p99)}"


def call_cost_findings(found: CallCost) -> Iterator[Finding]:
    yield Finding(name="event loop a call, ours", value=f"{median(found.ours):.1f} µs")
    yield Finding(name="event loop a call, a bare handler", value=f"{median(found.bare):.1f} µs")
    yield Finding(
        name="ours ÷ bare, median of the rounds",
        value=f"{found.ratio:.2f} ({min(found.ours) / min(found.bare):.2f} by the least of each)",
        bound=f"≤ {CALL_TO_BARE}",
        met=found.ratio <= CALL_TO_BARE,
    )
