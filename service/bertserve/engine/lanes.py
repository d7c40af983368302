"""Lanes: threads that run batches side by side, sharing one session per bundle.

Several narrow runs beat one wide run: every operator of a wide run ends at a barrier, where one preempted thread holds
up all. Owns the threads and the retry that isolates a failing item; knows nothing of queues or event loops, and does
not judge whether a lane takes too long: it shows what each lane does, and replaces one when told.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from bertserve.engine.contract import Engine, RunStop
from bertserve.engine.items import Item, ItemOutputs
from bertserve.engine.packing import PackedBatch

# For what a lane is doing when it is told to end.
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch. outcomes: one per item, its outputs, what was made of them, or what was raised.

    started, finished: seconds by `time.monotonic`. failures: runs that raised.
    """

    outcomes: tuple[Any, ...]
    started: float
    finished: float
    failures: int


class Job(Protocol):
    """A batch for a lane, which calls its methods."""

    @property
    def engine(self) -> Engine:
        """What runs it."""
        ...

    def take(self) -> PackedBatch | None:
        """The batch to run. None if nobody waits for it any longer."""
        ...

    def done(self, result: BatchResult | Exception | None) -> None:
        """Called once, with the result, None if nothing ran, or the error if one was raised outside a run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """What a lane does at the moment. number: no two steps of a server have the same. tokens: of its run, 0 between
    runs. stop: ends its run."""

    number: int
    job: Job
    tokens: int = 0
    stop: RunStop = field(default_factory=RunStop)


class Lane:
    """One thread, working until it is told to end, is abandoned, or dies."""

    def __init__(self, number: int, jobs: queue.SimpleQueue[Job | None], step_numbers: itertools.count[int]) -> None:
        self.number = number
        self.step: Step | None = None
        self._jobs = jobs
        self._step_numbers = step_numbers
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._work, name=f"lane-{number}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def abandon(self) -> None:
        """Expect nothing of it any more. Its run is told to end; what it does not, ends with the process."""
        self._is_abandoned = True
        if (step := self.step) is not None:
            step.stop.request()

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while not self._is_abandoned and (job := self._jobs.get()) is not None:
            if self._is_abandoned:
                self._jobs.put(job)
                return
            self._publish(self._next_step(job))
            job.done(self._run_job(job))
            self._publish(None)

    def _publish(self, step: Step | None) -> None:
        """Show other threads what the lane does from now on, None while it is idle."""
        self.step = step

    def _next_step(self, job: Job, tokens: int = 0) -> Step:
        return Step(number=next(self._step_numbers), job=job, tokens=tokens)

    def _run_job(self, job: Job) -> BatchResult | Exception | None:
        try:
            batch = job.take()
            return run_isolated(job.engine, batch, partial(self._run, job)) if batch is not None else None
        except Exception as error:  # a bug in packing, say: the lane outlives it, and nobody waits for ever
            return error

    def _run(self, job: Job, batch: PackedBatch) -> list[ItemOutputs]:
        step = self._next_step(job, batch.token_count)
        self._publish(step)
        # Checked after the step is shown: `abandon` sets the flag first, so that it is seen here or ends this run.
        if self._is_abandoned:
            raise RuntimeError("the lane was given up")
        return job.engine.run(batch, step.stop)


class Lanes:
    """A fixed number of lanes. At most `capacity` jobs should be under way: one a lane, and one ready to follow."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._step_numbers = itertools.count()
        self._lanes = [self._open_lane(number) for number in range(count)]

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes)

    @property
    def capacity(self) -> int:
        return self.count + 1

    def submit(self, job: Job) -> None:
        """Run a job on the next free lane."""
        self._jobs.put(job)

    def replace(self, number: int) -> Job | None:
        """Put a new thread in a lane's place. Returns the job that the old one leaves behind; it may still call `done`
        of it, if it was about to."""
        lost = self._lanes[number]
        step = lost.step
        lost.abandon()
        self._lanes[number] = self._open_lane(number)
        return step.job if step is not None else None

    def stop(self) -> None:
        """End every lane after what it is doing, as far as that ends in good time."""
        for _ in self._lanes:
            self._jobs.put(None)
        ends = time.monotonic() + STOP_SECONDS
        for lane in self._lanes:
            lane.join(max(0.0, ends - time.monotonic()))

    def _open_lane(self, number: int) -> Lane:
        return Lane(number, self._jobs, self._step_numbers)


Run = Callable[[PackedBatch], list[ItemOutputs]]


def run_isolated(engine: Engine, batch: PackedBatch, run: Run) -> BatchResult:
    """Run a batch. If it raises, run its items one by one, so that only the culprit fails.

    run: runs a batch of this engine.
    """
    started = time.monotonic()
    failures = 0
    outcomes: list[ItemOutputs | Exception]
    try:
        outcomes = list(run(batch))
    except Exception as error:  # an engine may raise any class
        failures = 1
        outcomes = [error] if len(batch.items) == 1 else [_run_alone(engine, item, run) for item in batch.items]
    if len(batch.items) > 1:
        failures += sum(isinstance(outcome, Exception) for outcome in outcomes)
    return BatchResult(outcomes=tuple(outcomes), started=started, finished=time.monotonic(), failures=failures)


def _run_alone(engine: Engine, item: Item, run: Run) -> ItemOutputs | Exception:
    try:
        return run(engine.pack([item]))[0]
    except Exception as error:  # an engine may raise any class
        return error
