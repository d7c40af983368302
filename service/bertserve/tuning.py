"""`--tune`: lanes × threads and the budget of a batch, measured on this machine before the server is ready."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from bertserve.bundle import read_bundle
from bertserve.engine.contract import Engine
from bertserve.engine.golden import read_golden
from bertserve.engine.items import Item
from bertserve.engine.opening import open_engine
from bertserve.observe.logs import log

BUDGETS_TOKENS = (64, 128, 256, 512)
MEASURE_SECONDS = 0.5

# What is within this share of the best is as good, and then short batches count: they delay short texts less.
GOOD_ENOUGH = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """lane_threads: of one lane. batch_tokens: budget of a batch."""

    lanes: int
    lane_threads: int
    batch_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """tokens_per_second: of all lanes together."""

    layout: Layout
    tokens_per_second: float


def possible_threads(cores: int) -> list[int]:
    """Threads of a lane worth measuring: powers of two, and all cores in one lane."""
    return sorted({2**power for power in range(cores.bit_length()) if 2**power <= cores} | {cores})


def choose_layout(measurements: Sequence[Measurement]) -> Layout:
    """Of the layouts that are nearly as fast as the fastest, the one of the smallest budget; then the fastest."""
    best = max(measurement.tokens_per_second for measurement in measurements)
    good = [measurement for measurement in measurements if measurement.tokens_per_second >= GOOD_ENOUGH * best]
    return min(good, key=lambda found: (found.layout.batch_tokens, -found.tokens_per_second)).layout


def tune(path: Path, cores: int) -> Layout:
    """Measure every layout on a bundle's golden inputs. Raises BundleError."""
    bundle = read_bundle(path)
    items = [case.item for case in read_golden(bundle.golden_path)]
    measurements = []
    for threads in possible_threads(cores):
        engine = open_engine(bundle, threads)
        for batch_tokens in BUDGETS_TOKENS:
            layout = Layout(lanes=cores // threads, lane_threads=threads, batch_tokens=batch_tokens)
            measurement = Measurement(layout=layout, tokens_per_second=_measure(engine, items, layout))
            measurements.append(measurement)
            log(
                "measured", lanes=layout.lanes, lane_threads=threads, batch_tokens=batch_tokens,
                tokens_per_second=round(measurement.tokens_per_second),
            )  # fmt: skip
    return choose_layout(measurements)


def fill_batch(items: Sequence[Item], batch_tokens: int) -> list[Item]:
    """Items over and over, as far as the budget goes; at least one."""
    batch: list[Item] = []
    tokens = 0
    for item in cycle(items):
        if batch and tokens + item.length > batch_tokens:
            return batch
        batch.append(item)
        tokens += item.length
    return batch


def _measure(engine: Engine, items: Sequence[Item], layout: Layout) -> float:
    """Tokens per second of so many lanes at once, each running one batch after another."""
    batch = engine.pack(fill_batch(items, layout.batch_tokens))
    engine.run(batch)
    runs = [0] * layout.lanes
    started = time.monotonic()

    def work(lane: int) -> None:
        while time.monotonic() - started < MEASURE_SECONDS:
            engine.run(batch)
            runs[lane] += 1

    lanes = [threading.Thread(target=work, args=(lane,)) for lane in range(layout.lanes)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    return sum(runs) * batch.token_count / (time.monotonic() - started)
