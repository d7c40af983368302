"""What a lane shows of its work, and how its run is ended from another thread."""

from __future__ import annotations

import queue
from collections.abc import Callable

import pytest
from bertserve.bundle import read_bundle
from bertserve.engine.contract import RunStop
from bertserve.engine.items import ItemOutputs
from bertserve.engine.lanes import BatchResult, Job, Lanes, Step
from bertserve.engine.opening import open_engine
from bertserve.engine.packing import PackedBatch
from scripted_engine import POISON, ScriptedEngine, item
from servers import PRETRAINING


class OneBatch(Job):
    """A batch for the only lane. prepare: called when the lane takes it."""

    def __init__(
        self, engine: ScriptedEngine, batch: PackedBatch, prepare: Callable[[], object] = lambda: None
    ) -> None:
        self.results: queue.SimpleQueue[BatchResult | Exception | None] = queue.SimpleQueue()
        self._engine = engine
        self._batch = batch
        self._prepare = prepare

    @property
    def engine(self) -> ScriptedEngine:
        return self._engine

    def take(self) -> PackedBatch:
        self._prepare()
        return self._batch

    def done(self, result: BatchResult | Exception | None) -> None:
        self.results.put(result)


class WatchedEngine(ScriptedEngine):
    """Notes what the only lane shows while it runs."""

    def __init__(self, lanes: Lanes) -> None:
        super().__init__()
        self.gate.set()
        self.steps: list[Step | None] = []
        self._lanes = lanes

    def run(self, batch: PackedBatch, stop: RunStop | None = None) -> list[ItemOutputs]:
        self.steps += [lane.step for lane in self._lanes]
        return super().run(batch, stop)


def test_each_run_is_a_step_of_its_own(lanes: Lanes) -> None:
    """A batch that fails runs item by item; the watch must not take these runs for one long one."""
    engine = WatchedEngine(lanes)
    job = OneBatch(engine, engine.pack([item(1, tokens=4), item(POISON, tokens=5)]))
    lanes.submit(job)
    job.results.get(timeout=30)
    steps = [step for step in engine.steps if step is not None]
    assert [step.tokens for step in steps] == [9, 4, 5]
    assert len({step.number for step in steps}) == 3
    assert {step.job for step in steps} == {job}


def test_lane_that_is_given_up_before_its_run_does_not_start_it(lanes: Lanes) -> None:
    """A new lane has its place, and the engine would be busy with a result that nobody takes."""
    engine = WatchedEngine(lanes)
    job = OneBatch(engine, engine.pack([item(1)]), prepare=lambda: lanes.replace(0))
    lanes.submit(job)
    result = job.results.get(timeout=30)
    assert isinstance(result, BatchResult)
    assert [type(outcome) for outcome in result.outcomes] == [RuntimeError]
    assert engine.batches == []


def test_a_request_ends_the_run_under_way() -> None:
    ended: list[str] = []
    stop = RunStop()
    stop.on_request(lambda: ended.append("run"))
    assert ended == []
    stop.request()
    assert ended == ["run"]


def test_a_run_that_starts_after_the_request_ends_at_once() -> None:
    """The lane may be given up between the step that it shows and the run that follows."""
    engine = open_engine(read_bundle(PRETRAINING), threads=1)
    stop = RunStop()
    stop.request()
    with pytest.raises(Exception, match="terminate"):
        engine.run(engine.pack([item(5)]), stop)
