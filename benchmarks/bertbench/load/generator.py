"""Runs of one set of requests: one, several rates, or the search for the highest; shown live while they last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from bertbench.errors import BenchError
from bertbench.load.arrivals import Arrivals
from bertbench.load.client import Progress
from bertbench.load.driver import Run, carry_out
from bertbench.load.plan import ClosedLoop, OpenLoop, Plan
from bertbench.load.requests import PreparedRequest
from bertbench.load.search import Search, Trial, highest_met, next_rate
from bertbench.load.summary import Summary, summarize


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """rate: the highest that met the bound, None where none did or none was searched. summaries: all runs, in turn."""

    rate: float | None
    summaries: tuple[Summary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """metrics: HOST:PORT of the server's metrics page, if it has one. console: where runs are shown while they last."""

    requests: tuple[PreparedRequest, ...]
    metrics: str | None
    console: Console

    def run(self, plan: Plan) -> Summary:
        """One run in figures. Raises BenchError."""
        return summarize(self.carry_out(plan))

    def carry_out(self, plan: Plan) -> Run:
        """One run, call by call. Raises BenchError."""
        with _shown(self.console, plan) as watch:
            return carry_out(plan, self.requests, metrics=self.metrics, watch=watch)

    def run_each(self, plan: Plan, loops: Sequence[OpenLoop | ClosedLoop]) -> Found:
        """One run for each loop, in turn."""
        return Found(rate=None, summaries=tuple(self.run(replace(plan, loop=loop)) for loop in loops))

    def find_rate(self, plan: Plan, arrivals: Arrivals, p99_seconds: float, start: float) -> Found:
        """The highest rate whose p99, of all calls, is at most this; an unanswered call takes for ever."""
        search = Search(start=start)
        trials: list[Trial] = []
        summaries: list[Summary] = []
        while (rate := next_rate(search, trials)) is not None:
            loop = OpenLoop(rate=rate, arrivals=arrivals)
            summary = self.run(replace(plan, loop=loop, seed=plan.seed + len(trials)))
            check_generator(summary, p99_seconds)
            trials.append(Trial(rate=rate, met=summary.strict_p99 <= p99_seconds))
            summaries.append(summary)
        return Found(rate=highest_met(trials), summaries=tuple(summaries))


def check_generator(summary: Summary, p99_seconds: float) -> None:
    """Raises BenchError where the generator itself was later than the bound that the server is held to."""
    if summary.lag.p99 > p99_seconds:
        raise BenchError(
            f"the generator fell behind: {summary.lag.p99:.3f} s late at the p99; give it more --processes, or cores"
        )


@contextmanager
def _shown(console: Console, plan: Plan) -> Iterator[Callable[[Progress], None]]:
    """A line that follows a run; the value takes its progress."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(describe(plan), total=plan.warmup_seconds + plan.seconds, counts="")
        began = bars.get_time()

        def watch(progress: Progress) -> None:
            counts = f"{progress.sent:,} sent, {progress.answered:,} answered, {progress.failed:,} failed"
            bars.update(task, completed=bars.get_time() - began, counts=counts)

        yield watch


def describe(plan: Plan) -> str:
    """The load in a few words."""
    if isinstance(plan.loop, ClosedLoop):
        return f"{plan.loop.callers} callers"
    return f"{plan.loop.rate:,.1f} calls/s"
