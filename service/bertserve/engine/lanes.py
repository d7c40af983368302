"""Lanes: threads that run batches side by side, sharing one session per bundle.

Several narrow runs beat one wide run: every operator of a wide run ends at a barrier, where one preempted thread holds
up all. Owns the threads and the retry that isolates a failing item; knows nothing of queues or event loops.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bertserve.engine.items import Item, ItemOutputs
from bertserve.engine.packing import PackedBatch
from bertserve.engine.session import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch. outcomes: one per item, its outputs or what its run raised.

    started, finished: seconds by `time.monotonic`. failures: runs that raised.
    """

    outcomes: tuple[ItemOutputs | Exception, ...]
    started: float
    finished: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A batch for a lane. `take` is called on the lane when its turn comes, and may give None if nobody wants it any
    more; `done` is called on the lane with the result, None where nothing ran, or
    what was raised beside any run."""

    engine: Engine
    take: Callable[[], PackedBatch | None]
    done: Callable[[BatchResult | Exception | None], None]


class Lanes:
    """A fixed number of threads. At most `capacity` jobs should be under way: one a lane, and one ready to follow."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"lane-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def capacity(self) -> int:
        return self.count + 1

    @property
    def are_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def submit(self, job: Job) -> None:
        """Run a job on the next free lane."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End every lane after what it is doing."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.done(_run(job))


def _run(job: Job) -> BatchResult | Exception | None:
    try:
        batch = job.take()
        return run_isolated(job.engine, batch) if batch is not None else None
    except Exception as error:  # a bug in packing, say: the lane outlives it, and nobody waits for ever
        return error


def run_isolated(engine: Engine, batch: PackedBatch) -> BatchResult:
    """Run a batch; where it raises, run its items one by one, so that only the culprit fails."""
    started = time.monotonic()
    failures = 0
    outcomes: list[ItemOutputs | Exception]
    try:
        outcomes = list(engine.run(batch))
    except Exception as error:  # whatever ONNX Runtime raises
        failures = 1
        outcomes = [error] if len(batch.items) == 1 else [_run_alone(engine, item) for item in batch.items]
    if len(batch.items) > 1:
        failures += sum(isinstance(outcome, Exception) for outcome in outcomes)
    return BatchResult(outcomes=tuple(outcomes), started=started, finished=time.monotonic(), failures=failures)


def _run_alone(engine: Engine, item: Item) -> ItemOutputs | Exception:
    try:
        return engine.run(engine.pack([item]))[0]
    except Exception as error:  # whatever ONNX Runtime raises
        return error
