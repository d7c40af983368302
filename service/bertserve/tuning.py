"""Lanes × threads and the budget of a batch: planned by the engine, or with `--tune` measured on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal

from bertserve.bundle import read_bundle
from bertserve.engine.contract import Engine, LanePlan, LaneWishes
from bertserve.engine.golden import read_golden
from bertserve.engine.items import Item
from bertserve.engine.opening import open_engine, plan_lanes
from bertserve.observe.logs import log
from bertserve.settings import Settings

BUDGETS_TOKENS = (64, 128, 256, 512)
MEASURE_SECONDS = 0.5

# What is within this share of the best is as good, and then short batches count: they delay short texts less.
GOOD_ENOUGH = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """tokens_per_second: of all lanes together."""

    plan: LanePlan
    tokens_per_second: float


def possible_threads(cores: int) -> list[int]:
    """Threads of a lane worth measuring: powers of two, and all cores in one lane."""
    return sorted({2**power for power in range(cores.bit_length()) if 2**power <= cores} | {cores})


def choose_plan(measurements: Sequence[Measurement]) -> LanePlan:
    """The plan of the smallest budget among those that are nearly as fast as the fastest; then the fastest."""
    best = max(measurement.tokens_per_second for measurement in measurements)
    good = [measurement for measurement in measurements if measurement.tokens_per_second >= GOOD_ENOUGH * best]
    return min(good, key=lambda found: (found.plan.batch_tokens, -found.tokens_per_second)).plan


def find_plan(settings: Settings, path: Path, cores: int) -> LanePlan:
    """The plan that the settings ask for, on so many cores. path: of the bundle to measure on. Raises BundleError."""
    if settings.tune:
        return tune(path, cores)
    wishes = LaneWishes(
        lanes=_as_wish(settings.lanes),
        lane_threads=_as_wish(settings.lane_threads),
        batch_tokens=_as_wish(settings.batch_tokens),
    )
    return plan_lanes(cores, wishes)


def tune(path: Path, cores: int) -> LanePlan:
    """Measure every plan on a bundle's golden inputs. Raises BundleError."""
    bundle = read_bundle(path)
    items = [case.item for case in read_golden(bundle.golden_path)]
    measurements = []
    for threads in possible_threads(cores):
        engine = open_engine(bundle, threads)
        for batch_tokens in BUDGETS_TOKENS:
            plan = plan_lanes(cores, LaneWishes(lane_threads=threads, batch_tokens=batch_tokens))
            measurement = Measurement(plan=plan, tokens_per_second=_measure(engine, items, plan))
            measurements.append(measurement)
            log("measured", **asdict(plan), tokens_per_second=round(measurement.tokens_per_second))
    return choose_plan(measurements)


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


def _as_wish(setting: Literal["auto"] | int) -> int | None:
    return None if setting == "auto" else setting


def _measure(engine: Engine, items: Sequence[Item], plan: LanePlan) -> float:
    """Tokens per second of so many lanes at once, each running one batch after another."""
    batch = engine.pack(fill_batch(items, plan.batch_tokens))
    engine.run(batch)
    runs = [0] * plan.lanes
    started = time.monotonic()

    def work(lane: int) -> None:
        while time.monotonic() - started < MEASURE_SECONDS:
            engine.run(batch)
            runs[lane] += 1

    lanes = [threading.Thread(target=work, args=(lane,)) for lane in range(plan.lanes)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    return sum(runs) * batch.token_count / (time.monotonic() - started)
