"""Whether memory grows with the shapes that a server has seen, what loading peaks at, and what idling costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from bertbench.load.generator import Generator
from bertbench.load.plan import ClosedLoop, Plan
from bertbench.load.requests import prepare
from bertbench.serving.server_process import ServerProcess, serving
from bertbench.serving.workload import Workload

FIRST_REQUESTS = 2_000
ALL_REQUESTS = 20_000
MEAN_TOKENS = 24
SIZES = {1: 4.0, 2: 2.0, 3: 1.0, 7: 1.0}
CALLERS = 8
IDLE_SECONDS = 10.0
SLICE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of resident memory: the peak when ready, and after the first and after all requests. idle_cores: processor
    time ÷ time of a server that nobody calls."""

    first_requests: int
    all_requests: int
    load_peak_bytes: int
    first_bytes: int
    last_bytes: int
    idle_cores: float

    @property
    def growth(self) -> float:
        """Memory after all requests ÷ after the first."""
        return self.last_bytes / self.first_bytes

    @property
    def peak_ratio(self) -> float:
        """Peak of loading ÷ steady memory."""
        return self.load_peak_bytes / self.first_bytes


def measure_memory(
    workload: Workload, console: Console, flags: Sequence[str], first: int = FIRST_REQUESTS, last: int = ALL_REQUESTS
) -> Memory:
    """Requests of one to seven texts, whose lengths vary as those of sentences do, a few as long as the model takes."""
    texts = workload.texts_of_mean(MEAN_TOKENS, 4000) + workload.texts([workload.bundle.model.max_tokens] * 8)
    workload.rng.shuffle(texts)
    requests = prepare(texts, {"embed": 1}, SIZES, workload.rng)
    with serving(workload.bundle.path, *flags) as server:
        load_peak = server.peak_memory_bytes()
        idle_cores = _measure_idle(server)
        generator = Generator(requests=requests, metrics=server.metrics, console=console)
        plan = Plan(target=server.target, loop=ClosedLoop(callers=CALLERS), seconds=1.0, warmup_seconds=0)
        sent = _send(generator, plan, first)
        first_bytes = server.memory_bytes()
        _send(generator, replace(plan, seed=1), last - sent)
        last_bytes = server.memory_bytes()
    return Memory(
        first_requests=first,
        all_requests=last,
        load_peak_bytes=load_peak,
        first_bytes=first_bytes,
        last_bytes=last_bytes,
        idle_cores=idle_cores,
    )


def _send(generator: Generator, plan: Plan, count: int) -> int:
    """Runs until so many calls were made or a few more; returns how many."""
    sent, rate = 0, 0.0
    while sent < count:
        seconds = min(SLICE_SECONDS, max(1.0, (count - sent) / rate)) if rate else 1.0
        run = generator.carry_out(replace(plan, seconds=seconds))
        sent, rate = sent + len(run.records), len(run.records) / seconds
    return sent


def _measure_idle(server: ServerProcess) -> float:
    time.sleep(1.0)
    before = server.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    return (server.cpu_seconds() - before) / IDLE_SECONDS
