"""bertserve and its peers, one after another, under the same load and with the same number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from bertbench.load.generator import Generator
from bertbench.load.plan import ClosedLoop, OpenLoop, Plan
from bertbench.load.summary import Summary
from bertbench.load.tables import seconds_text
from bertbench.peers.contestants import Contestant

# Of what bertserve answers at saturation: loads that every peer is put under, too much for some of them.
SHARES_OF_SATURATION = (0.2, 0.4, 0.6, 0.8)
CALLERS = 32
CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One server. saturated: a closed loop. loaded: open loops, at the same rates for all peers."""

    name: str
    saturated: Summary
    loaded: tuple[Summary, ...]


def compare(contestants: Sequence[Contestant], console: Console, seconds: float) -> list[Peer]:
    """Saturate each, then load each at shares of what the first did."""
    found: list[Peer] = []
    for contestant in contestants:
        with contestant.start() as server:
            console.print(f"{contestant.name}: ready after {server.ready_seconds:.1f} s", highlight=False)
            generator = Generator(requests=contestant.requests, metrics=server.metrics, console=console)
            plan = Plan(target=server.target, loop=ClosedLoop(callers=CALLERS), seconds=seconds)
            saturated = generator.run(plan)
            most = found[0].saturated.answered_rate if found else saturated.answered_rate
            loops = [OpenLoop(rate=share * most) for share in SHARES_OF_SATURATION]
            loaded = generator.run_each(replace(plan, connections=CONNECTIONS), loops).summaries
        found.append(Peer(name=contestant.name, saturated=saturated, loaded=loaded))
    return found


def comparison_table(found: Sequence[Peer]) -> Table:
    """Every load of every peer; ratios are to the first peer under the same load."""
    table = Table(title="×: the figure ÷ that of the first server under the same load", title_justify="left")
    for column in ("load", "tokens/s", "×", "p50", "p99", "×", "failed"):
        table.add_column(column, justify="left" if column == "load" else "right", no_wrap=True)
    ours = found[0]
    for peer in found:
        table.add_row(f"[bold]{peer.name}[/]")
        pairs = zip((peer.saturated, *peer.loaded), (ours.saturated, *ours.loaded), strict=True)
        for run, reference in pairs:
            table.add_row(
                f"{CALLERS} callers" if run.asked_rate is None else f"{run.asked_rate:,.1f}/s",
                f"{run.tokens_per_second:,.0f}",
                f"{run.tokens_per_second / reference.tokens_per_second:.2f}",
                seconds_text(run.latency.p50),
                seconds_text(run.latency.p99),
                f"{run.latency.p99 / reference.latency.p99:.2f}",
                f"{sum(run.statuses.values()) - run.statuses.get('OK', 0):,}",
            )
        table.add_section()
    return table
