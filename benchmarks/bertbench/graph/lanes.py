"""How fast batches run side by side: lanes × threads, as in the server.

A lane takes the next batch as soon as it is free. Its rate is its own tokens over its own time, so that lanes which end
at different moments are not blamed for each other's last batch; the rates of all lanes add up.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Arrangement:
    """lanes: batches that run at the same time. threads: of each."""

    lanes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.lanes}×{self.threads}"


def arrangements(cores: int) -> list[Arrangement]:
    """Every way to use all cores by lanes of equal width, the widest lane first."""
    return [Arrangement(lanes, cores // lanes) for lanes in range(1, cores + 1) if cores % lanes == 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyBatch:
    """A batch that only has to be run. tokens: real ones, padding not counted."""

    run: Callable[[], object]
    tokens: int


def cycles_for(batches: int, lanes: int, cycle_seconds: float, seconds: float) -> int:
    """How often to run all batches: for about so long, and at least one batch for every lane."""
    return max(1, math.ceil(lanes / batches), round(seconds / cycle_seconds))


def measure_rate(lanes: ThreadPoolExecutor, count: int, batches: Sequence[ReadyBatch], cycles: int) -> float:
    """Tokens per second of all lanes together. lanes: a pool of `count` threads."""
    waiting: queue.SimpleQueue[ReadyBatch] = queue.SimpleQueue()
    for batch in [*batches] * cycles:
        waiting.put(batch)
    start = threading.Barrier(count)
    return sum(future.result() for future in [lanes.submit(_run_lane, waiting, start) for _ in range(count)])


def _run_lane(waiting: queue.SimpleQueue[ReadyBatch], start: threading.Barrier) -> float:
    """Tokens per second of one lane; the barrier sees to it that every thread of the pool is one."""
    start.wait()
    began, tokens = time.perf_counter(), 0
    while True:
        try:
            batch = waiting.get_nowait()
        except queue.Empty:
            return tokens / (time.perf_counter() - began)
        batch.run()
        tokens += batch.tokens
