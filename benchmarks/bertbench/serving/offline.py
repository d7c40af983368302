"""What the engine does alone: the same texts and batches as the server's, on as many lanes, without a server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bertserve.engine.contract import Engine
from bertserve.engine.items import Item


def fill_batches(items: Sequence[Item], batch_tokens: int) -> list[list[Item]]:
    """All items in batches of at most so many tokens: the oldest first, then whichever of the following still fits.

    An item that is longer than a batch may be has one of its own.
    """
    batches = []
    waiting = list(items)
    while waiting:
        batch, passed_over, room = [waiting[0]], [], batch_tokens - waiting[0].length
        for item in waiting[1:]:
            if item.length <= room:
                batch.append(item)
                room -= item.length
            else:
                passed_over.append(item)
        batches.append(batch)
        waiting = passed_over
    return batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """All lanes together. cpu_cores: processor time ÷ time; less than the lanes' threads where others took the rest."""

    tokens_per_second: float
    cpu_cores: float


def measure_offline(engine: Engine, batches: Sequence[list[Item]], lanes: int, seconds: float) -> Offline:
    """The engine at full speed. Batches are packed by the lanes, and run round and round."""
    engine.run_items(batches[0])
    supply = itertools.cycle(batches)

    def work() -> float:
        began, tokens = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            batch = next(supply)
            engine.run_items(batch)
            tokens += sum(item.length for item in batch)
        return tokens / (time.monotonic() - began)

    began, cpu_began = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(lanes) as pool:
        speed = sum(future.result() for future in [pool.submit(work) for _ in range(lanes)])
    cpu_cores = (time.process_time() - cpu_began) / (time.monotonic() - began)
    return Offline(tokens_per_second=speed, cpu_cores=cpu_cores)
