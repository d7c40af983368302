"""Lanes that die or stall: when that is noticed, what callers are told, and how the server comes back or gives up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from bertserve.batching.admission import Speed
from bertserve.batching.batcher import Batcher
from bertserve.batching.policy import BatchLimits
from bertserve.engine.contract import RunStop
from bertserve.engine.items import ItemOutputs
from bertserve.engine.lanes import Lanes
from bertserve.engine.packing import PackedBatch
from bertserve.errors import EngineUnavailable
from bertserve.observe.metrics import Metrics
from bertserve.supervision.supervisor import Supervisor
from bertserve.supervision.verdict import LaneState, Watched, find_lost, is_hopeless, watch
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import ScriptedEngine, item, read_number

STALL = 0.2
TICK = 1.0
FINE, STALLING, DYING = 1, 2, 3


class FaultyEngine(ScriptedEngine):
    """Answers each item with its first id, except STALLING, in which it stays, and DYING, which kills the lane."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.set()
        self.release = threading.Event()
        self.is_told_to_end = threading.Event()

    def run(self, batch: PackedBatch, stop: RunStop | None = None) -> list[ItemOutputs]:
        first_ids = {int(item.input_ids[0]) for item in batch.items}
        if DYING in first_ids:
            raise SystemExit
        if STALLING in first_ids:
            assert stop is not None
            stop.on_request(self.is_told_to_end.set)
            self.release.wait()
        return super().run(batch, stop)


class Watch:
    """A batcher on two lanes under a supervisor. ready: what the supervisor told, in order."""

    def __init__(self, prove: Callable[[object], None]) -> None:
        self.engine = FaultyEngine()
        self.metrics = Metrics()
        self.lanes = Lanes(2)
        self.ready: list[bool] = []
        self.batcher = Batcher(self.lanes, BatchLimits(batch_tokens=8, overtaken_seconds=1), 1000, self.metrics)
        self.batcher.add_model("m", self.engine, Speed(tokens=1e6, seconds=1))
        self.supervisor = Supervisor(
            self.lanes, self.batcher, [lambda: prove(self.engine)], STALL, self.metrics, self.note
        )  # fmt: skip

    def note(self, is_ready: bool) -> None:
        self.ready.append(is_ready)

    async def ask(self, number: int) -> int:
        completed = await self.batcher.run("m", [item(number, tokens=8)], None, read_number)
        return completed.results[0]

    async def until_ready(self) -> None:
        while self.ready != [False, True]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def watch_over() -> AsyncIterator[Callable[..., Watch]]:
    made: list[Watch] = []

    def make(prove: Callable[[object], None] = lambda _: None) -> Watch:
        made.append(Watch(prove))
        return made[-1]

    yield make
    for one in made:
        one.supervisor.stop()
        one.engine.release.set()
        one.lanes.stop()
    # Abandoned lanes too: what becomes of their last batch they tell an event loop that must still be there.
    for thread in threading.enumerate():
        if thread.name.startswith("lane-"):
            thread.join()


async def test_watch_that_fails_gives_up(
    watch_over: Callable[..., Watch], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can take a lane's place, say: the callers are told, and the process ends with a line that says
    why."""
    one = watch_over()
    monkeypatch.setattr(one.lanes, "replace", out_of_threads)
    with pytest.raises(EngineUnavailable):
        await one.ask(STALLING)
    assert one.supervisor.has_given_up.is_set()
    assert "the watch over the lanes failed" in caplog.messages


def out_of_threads(_: int) -> None:
    raise RuntimeError("can't start new thread")


async def test_stalled_batch_fails_as_unavailable_and_is_told_to_end(watch_over: Callable[..., Watch]) -> None:
    """Its callers may try another replica; the run ends at its next node."""
    one = watch_over()
    with pytest.raises(EngineUnavailable):
        await one.ask(STALLING)
    assert one.engine.is_told_to_end.is_set()
    assert one.metrics.registry.get_sample_value("bertserve_lanes_lost_total") == 1


async def test_server_serves_again_after_a_stall(watch_over: Callable[..., Watch]) -> None:
    """Not ready, a new lane, golden outputs reproduced, ready; both lanes work then."""
    one = watch_over()
    with pytest.raises(EngineUnavailable):
        await one.ask(STALLING)
    await one.until_ready()
    assert await asyncio.gather(*(one.ask(FINE) for _ in range(20))) == [FINE] * 20
    assert all(lane.is_alive for lane in one.lanes)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_dead_lane_is_replaced(watch_over: Callable[..., Watch]) -> None:
    """Whatever ended the thread: its callers are told, and the server comes back."""
    one = watch_over()
    with pytest.raises(EngineUnavailable):
        await one.ask(DYING)
    await one.until_ready()
    assert await one.ask(FINE) == FINE
    assert all(lane.is_alive for lane in one.lanes)


async def test_nobody_is_let_in_before_the_engine_is_proven(watch_over: Callable[..., Watch]) -> None:
    """What was let in before is answered by the lanes that are left."""
    proven = threading.Event()
    one = watch_over(lambda _: proven.wait())
    with pytest.raises(EngineUnavailable):
        await one.ask(STALLING)
    with pytest.raises(EngineUnavailable):
        await one.ask(FINE)
    assert one.ready == [False]
    proven.set()
    await one.until_ready()
    assert await one.ask(FINE) == FINE


async def test_late_result_of_an_abandoned_lane_is_dropped(watch_over: Callable[..., Watch]) -> None:
    """Its caller was told already; the thread ends, and nothing is counted twice."""
    one = watch_over()
    before = threading.active_count()
    with pytest.raises(EngineUnavailable):
        await one.ask(STALLING)
    await one.until_ready()
    one.engine.release.set()
    while threading.active_count() > before:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await one.ask(FINE) == FINE
    assert one.metrics.registry.get_sample_value("bertserve_batch_items_count", {"model": "m"}) == 1


async def test_engine_that_computes_otherwise_is_given_up(watch_over: Callable[..., Watch]) -> None:
    """It is never ready again, and those who wait are told."""

    def fail(engine: object) -> None:  # noqa: ARG001
        raise ValueError("not as at export")

    one = watch_over(fail)
    with pytest.raises(EngineUnavailable):
        await one.ask(STALLING)
    await asyncio.wait_for(one.supervisor.has_given_up.wait(), 30)
    assert one.ready == [False]


async def test_lanes_lost_again_and_again_are_given_up(watch_over: Callable[..., Watch]) -> None:
    """Golden outputs prove little where every batch stalls."""
    one = watch_over()
    for _ in range(3):
        while not one.supervisor.is_ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        with pytest.raises(EngineUnavailable):
            await one.ask(STALLING)
    await asyncio.wait_for(one.supervisor.has_given_up.wait(), 30)
    assert not one.supervisor.is_ready


def lane(step: int | None, *, is_alive: bool = True, expected_seconds: float = 0.0) -> LaneState:
    return LaneState(is_alive=is_alive, step=step, expected_seconds=expected_seconds)


def look(steps: list[int | None], elapsed_seconds: float = TICK) -> dict[int, Watched]:
    """What is known of one lane after it was seen with these steps."""
    watched: dict[int, Watched] = {}
    for step in steps:
        watched = watch(watched, [lane(step)], elapsed_seconds, TICK)
    return watched


@given(st.integers(1, 1000), st.floats(0, 10), st.floats(0, 50))
def test_run_that_never_ends_is_found(ticks: int, expected: float, stall: float) -> None:
    """Once it was seen for longer than its bound, and not before."""
    watched = look([7] * (ticks + 1))
    lost = find_lost(watched, [lane(7, expected_seconds=expected)], stall)
    assert bool(lost) == (ticks * TICK > stall + 10 * expected)


@given(st.lists(st.floats(TICK, 10_000), max_size=5))
def test_time_that_the_process_slept_does_not_count(pauses: list[float]) -> None:
    """A stopped process, or one without CPU quota, has no stalled lanes for that."""
    watched = look([7])
    for pause in pauses:
        watched = watch(watched, [lane(7)], pause, TICK)
    assert watched[0].seconds <= 2 * TICK * len(pauses)


@given(st.lists(st.integers(0, 3), min_size=1))
def test_every_step_is_timed_by_itself(steps: list[int]) -> None:
    """A lane that goes from one run to the next is not stalled, however long it has been busy."""
    steps = [number + 10 * place for place, number in enumerate(steps)]
    assert look(list(steps))[0].seconds == 0


def test_idle_lane_is_not_lost() -> None:
    assert find_lost(look([7, 7, 7, None]), [lane(None)], 0.1) == {}


def test_dead_lane_is_lost_at_once() -> None:
    assert find_lost({}, [lane(None), lane(None, is_alive=False)], 100) == {1: "died"}


@pytest.mark.parametrize(
    ("losses", "expected"), [([], False), ([990, 995], False), ([980, 990, 995], True), ([1, 2, 995], False)]
)
def test_hopeless_is_what_keeps_happening(losses: list[float], expected: bool) -> None:
    assert is_hopeless(losses, 1000.0) is expected
