"""How much of the engine's own speed a saturated server keeps, and where the rest goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bertserve.bundle import Bundle
from bertserve.engine.opening import open_engine
from rich.console import Console
from rich.table import Table

from bertbench.errors import BenchError
from bertbench.load.generator import Generator
from bertbench.load.plan import ClosedLoop, Plan
from bertbench.load.requests import PreparedRequest
from bertbench.load.summary import ServerSummary, Summary
from bertbench.load.tables import seconds_text
from bertbench.serving.offline import Offline, fill_batches, measure_offline
from bertbench.serving.server_process import serving
from bertbench.serving.workload import Workload, embed_each

MEAN_TOKENS = 30
TEXTS = 2048
# Enough that every lane, and the batch kept ready, is full whenever it looks.
CALLERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Lanes, and threads of each."""

    lanes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.lanes} × {self.threads}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The engine alone, before and after the server's run, and that run."""

    offline_before: Offline
    offline_after: Offline
    served: Summary

    @property
    def offline(self) -> float:
        """Tokens/s of the engine alone."""
        return (self.offline_before.tokens_per_second + self.offline_after.tokens_per_second) / 2

    @property
    def offline_cpu_cores(self) -> float:
        return (self.offline_before.cpu_cores + self.offline_after.cpu_cores) / 2

    @property
    def server(self) -> ServerSummary:
        """The server by its own metrics, which every run here reads."""
        if self.served.server is None:
            raise BenchError("the server's metrics page was not read")
        return self.served.server


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """One arrangement, in rounds. All but the fields are medians over the rounds. cores: of this machine."""

    arrangement: Arrangement
    cores: int
    rounds: tuple[Round, ...]

    @property
    def offline(self) -> float:
        """Tokens/s of the engine alone."""
        return self._median(lambda one: one.offline)

    @property
    def served(self) -> float:
        """Tokens/s of the server's answers."""
        return self._median(lambda one: one.served.tokens_per_second)

    @property
    def ratio(self) -> float:
        """The server's tokens/s ÷ the engine's own."""
        return self._median(lambda one: one.served.tokens_per_second / one.offline)

    @property
    def corrected_ratio(self) -> float:
        """The same, where the engine is granted only the cores that the generator left."""
        return self._median(
            lambda one: (
                one.served.tokens_per_second / (one.offline * (self.cores - one.served.client_cpu_cores) / self.cores)
            )
        )

    @property
    def busy(self) -> float:
        """Share of the run that lanes spent running batches."""
        return self._median(lambda one: one.server.busy_lanes) / self.arrangement.lanes

    @property
    def speed_while_busy(self) -> float:
        """A lane's tokens/s while it runs a batch ÷ the same offline: what sharing the cores costs."""
        return self.ratio / self.busy

    @property
    def cpu_ratio(self) -> float:
        """The server's tokens per second of processor time ÷ the engine's own. What other programs take leaves it
        alone, but not what is lost by waiting."""
        return self._median(
            lambda one: (one.served.tokens_per_second / one.server.cpu_cores) / (one.offline / one.offline_cpu_cores)
        )

    @property
    def offline_cpu_cores(self) -> float:
        return self._median(lambda one: one.offline_cpu_cores)

    @property
    def server_cpu_cores(self) -> float:
        return self._median(lambda one: one.server.cpu_cores)

    @property
    def generator_cpu_cores(self) -> float:
        return self._median(lambda one: one.served.client_cpu_cores)

    @property
    def p50(self) -> float:
        return self._median(lambda one: one.served.latency.p50)

    @property
    def p99(self) -> float:
        return self._median(lambda one: one.served.latency.p99)

    def _median(self, figure: Callable[[Round], float]) -> float:
        return median(figure(one) for one in self.rounds)


def measure_saturation(
    workload: Workload,
    arrangement: Arrangement,
    console: Console,
    *,
    cores: int,
    batch_tokens: int,
    seconds: float,
    rounds: int,
) -> Saturation:
    """The engine alone and the server under a closed loop of single texts, in turn, and the engine once more."""
    texts = workload.texts_of_mean(MEAN_TOKENS, TEXTS)
    engine = open_engine(workload.bundle, arrangement.threads)
    batches = fill_batches(workload.items(texts), batch_tokens)
    offline = [measure_offline(engine, batches, arrangement.lanes, seconds)]
    served = []
    for _ in range(rounds):
        served.append(serve_saturated(workload.bundle, arrangement, embed_each(texts), console, batch_tokens, seconds))
        offline.append(measure_offline(engine, batches, arrangement.lanes, seconds))
    turns = zip(offline, offline[1:], served, strict=False)
    return Saturation(
        arrangement=arrangement,
        cores=cores,
        rounds=tuple(Round(offline_before=before, offline_after=after, served=run) for before, after, run in turns),
    )


def serve_saturated(
    bundle: Bundle,
    arrangement: Arrangement,
    requests: tuple[PreparedRequest, ...],
    console: Console,
    batch_tokens: int,
    seconds: float,
) -> Summary:
    """A server of this arrangement under more callers than it can keep up with."""
    flags = ("--lanes", arrangement.lanes, "--lane-threads", arrangement.threads, "--batch-tokens", batch_tokens)
    with serving(bundle.path, *map(str, flags)) as server:
        generator = Generator(requests=requests, metrics=server.metrics, console=console)
        return generator.run(Plan(target=server.target, loop=ClosedLoop(callers=CALLERS), seconds=seconds))


def saturation_table(found: Sequence[Saturation]) -> Table:
    """A column for each arrangement."""
    title = f"Saturated by {CALLERS} callers of single texts, {MEAN_TOKENS} tokens on average"
    table = Table(title=title, title_justify="left")
    table.add_column("lanes × threads")
    for one in found:
        table.add_column(str(one.arrangement), justify="right")
    for name, show in (
        ("engine alone", lambda one: f"{one.offline:,.0f} tokens/s"),
        ("server", lambda one: f"{one.served:,.0f} tokens/s"),
        ("server ÷ engine", lambda one: f"{one.ratio:.3f}"),
        ("… on the cores that the generator left", lambda one: f"{one.corrected_ratio:.3f}"),
        ("… by processor time", lambda one: f"{one.cpu_ratio:.3f}"),
        ("time that lanes ran batches", lambda one: f"{one.busy:.1%}"),
        ("their speed meanwhile ÷ alone", lambda one: f"{one.speed_while_busy:.3f}"),
        ("engine's CPU, alone", lambda one: f"{one.offline_cpu_cores:.2f} of {one.cores} cores"),
        ("server's CPU", lambda one: f"{one.server_cpu_cores:.2f} of {one.cores} cores"),
        ("generator's CPU", lambda one: f"{one.generator_cpu_cores:.2f} of {one.cores} cores"),
        ("p50", lambda one: seconds_text(one.p50)),
        ("p99", lambda one: seconds_text(one.p99)),
    ):
        table.add_row(name, *map(show, found))
    return table


def saturation_json(found: Sequence[Saturation]) -> list[dict[str, Any]]:
    """The figures, those derived included."""
    derived = ("offline", "served", "ratio", "corrected_ratio", "cpu_ratio", "busy", "speed_while_busy", "p50", "p99")
    return [asdict(one) | {name: getattr(one, name) for name in derived} for one in found]
