"""The queue at work, on the real lanes, with an engine of known behaviour at the seam."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from bertserve.batching.admission import Speed
from bertserve.batching.batcher import Batcher
from bertserve.batching.policy import BatchLimits
from bertserve.engine.items import Item, ItemOutputs, Wanted
from bertserve.engine.lanes import Lanes
from bertserve.engine.packing import PackedBatch, pack
from bertserve.engine.session import RunStop
from bertserve.errors import DeadlinePassed, InvalidInput, Overloaded
from bertserve.metrics import Metrics

POISON = 99
BATCH_TOKENS = 32
QUEUE_TOKENS = 200


class ScriptedEngine:
    """Answers each item with its first id; raises where an item holds POISON; runs only while its gate is open.

    unpackable: an id that cannot be packed. most_items: beyond so many in a batch, the run raises `error`.
    """

    def __init__(self) -> None:
        self.unpackable = -1
        self.most_items = 1000
        self.error: Exception = MemoryError()
        self.gate = threading.Event()
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)

    def pack(self, items: list[Item]) -> PackedBatch:
        if any(self.unpackable in item.input_ids for item in items):
            raise MemoryError
        return pack(items, position_offset=0)

    def run(self, batch: PackedBatch, stop: RunStop) -> list[ItemOutputs]:  # noqa: ARG002
        self.batches.append([int(item.input_ids[0]) for item in batch.items])
        self.entered.release()
        assert self.gate.wait(timeout=30)
        if any(POISON in item.input_ids for item in batch.items):
            raise RuntimeError("poisoned")
        if len(batch.items) > self.most_items:
            raise self.error
        return [ItemOutputs(pooled=item.input_ids[:1].astype(np.float32)) for item in batch.items]

    def wait_until_entered(self) -> None:
        assert self.entered.acquire(timeout=30)


def item(number: int, tokens: int = 4) -> Item:
    ids = np.full(tokens, number, dtype=np.int64)
    return Item(input_ids=ids, token_type_ids=ids * 0, wanted=Wanted(pooler=True))


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def lanes(engine: ScriptedEngine) -> Iterator[Lanes]:
    """One lane, so that what runs and what waits is known: one batch runs, one is ready, the rest waits."""
    lanes = Lanes(1)
    yield lanes
    engine.gate.set()
    lanes.stop()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def batcher(engine: ScriptedEngine, lanes: Lanes, metrics: Metrics) -> Batcher:
    limits = BatchLimits(batch_tokens=BATCH_TOKENS, overtaken_seconds=10)
    batcher = Batcher(lanes, limits, QUEUE_TOKENS, metrics)
    batcher.add_model("m", engine, Speed(tokens=1000, seconds=1))  # type: ignore[arg-type]
    return batcher


def read_number(index: int, outputs: ItemOutputs) -> int:  # noqa: ARG001
    return int(outputs.pooled[0])  # type: ignore[index]


def ask(
    batcher: Batcher, *items: Item, deadline: float | None = None, in_stream: bool = False
) -> asyncio.Task[list[int]]:
    """Send a request, and let it reach the queue."""

    async def run() -> list[int]:
        completed = await batcher.run("m", items, deadline, read_number, in_stream=in_stream)
        return list(completed.results)

    return asyncio.create_task(run())


async def fill_lane(batcher: Batcher, engine: ScriptedEngine) -> list[asyncio.Task[list[int]]]:
    """Two requests: one runs, one is packed and ready behind it. What comes now waits in the queue."""
    first = ask(batcher, item(1, BATCH_TOKENS))
    await asyncio.sleep(0)
    await asyncio.to_thread(engine.wait_until_entered)
    second = ask(batcher, item(2, BATCH_TOKENS))
    await asyncio.sleep(0)
    return [first, second]


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    value = metrics.registry.get_sample_value(name, {"model": "m", **labels})
    assert value is not None, name
    return value


async def test_outputs_come_in_the_order_of_the_items(batcher: Batcher, engine: ScriptedEngine) -> None:
    """However a request is split into batches."""
    engine.gate.set()
    numbers = list(range(1, 31))
    assert await ask(batcher, *[item(n, 4 + n % 3) for n in numbers]) == numbers
    assert len(engine.batches) > 1


async def test_requests_share_batches(batcher: Batcher, engine: ScriptedEngine) -> None:
    """What waits together runs together, up to the budget."""
    running = await fill_lane(batcher, engine)
    waiting = [ask(batcher, item(n)) for n in (3, 4, 5)]
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(*running, *waiting)
    assert engine.batches == [[1], [2], [3, 4, 5]]


async def test_failing_item_fails_alone(batcher: Batcher, engine: ScriptedEngine, metrics: Metrics) -> None:
    """Its batch is run again item by item; batch-mates get their answers."""
    running = await fill_lane(batcher, engine)
    good, bad, other = (ask(batcher, item(n)) for n in (3, POISON, 5))
    await asyncio.sleep(0)
    engine.gate.set()
    results = await asyncio.gather(good, bad, other, return_exceptions=True)
    await asyncio.gather(*running)
    assert results[0] == [3]
    assert isinstance(results[1], RuntimeError)
    assert results[2] == [5]
    assert sample(metrics, "bertserve_engine_failures_total") == 2


async def test_cancelled_request_leaves_the_queue_at_once(
    batcher: Batcher, engine: ScriptedEngine, metrics: Metrics
) -> None:
    """What waits of it never runs, and its batch-mates do not notice."""
    running = await fill_lane(batcher, engine)
    leaving, staying = ask(batcher, item(3), item(4)), ask(batcher, item(5))
    await asyncio.sleep(0)
    assert sample(metrics, "bertserve_queue_items") == 3
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert sample(metrics, "bertserve_queue_items") == 1
    engine.gate.set()
    assert await staying == [5]
    await asyncio.gather(*running)
    assert engine.batches == [[1], [2], [5]]
    assert sample(metrics, "bertserve_dropped_total", reason="cancelled") == 2


async def test_cancelled_request_in_the_ready_batch_does_not_run(batcher: Batcher, engine: ScriptedEngine) -> None:
    """The lane leaves it out when it takes the batch."""
    running = await fill_lane(batcher, engine)
    running[1].cancel()
    await asyncio.gather(running[1], return_exceptions=True)
    engine.gate.set()
    assert await running[0] == [1]
    assert await ask(batcher, item(7)) == [7]
    assert engine.batches == [[1], [7]]


async def test_deadline_that_passes_in_the_queue_fails_the_request(
    batcher: Batcher, engine: ScriptedEngine, metrics: Metrics
) -> None:
    """Its items are dropped before they cost anything."""
    running = await fill_lane(batcher, engine)
    late = ask(batcher, item(3), deadline=time.monotonic() + 0.2)
    await asyncio.sleep(0.3)
    engine.gate.set()
    with pytest.raises(DeadlinePassed):
        await late
    await asyncio.gather(*running)
    assert engine.batches == [[1], [2]]
    assert sample(metrics, "bertserve_dropped_total", reason="expired") == 1


async def test_full_queue_refuses_with_a_time_to_retry(
    batcher: Batcher, engine: ScriptedEngine, metrics: Metrics
) -> None:
    """Beyond the bound nothing is let in; what was let in is answered."""
    running = await fill_lane(batcher, engine)
    waiting = [ask(batcher, item(3, 20)) for _ in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="full") as caught:
        await ask(batcher, item(4))
    with pytest.raises(Overloaded, match="full"):
        batcher.check_room("m", None)
    assert caught.value.retry_after_seconds > 0
    assert sample(metrics, "bertserve_rejected_total", reason="queue_full") == 2
    engine.gate.set()
    assert await asyncio.gather(*waiting) == [[3]] * 10
    await asyncio.gather(*running)


async def test_largest_request_leaves_room_for_others(batcher: Batcher, engine: ScriptedEngine) -> None:
    """As many tokens as the queue takes, sent at once: whoever comes then waits for one window of it, not for all."""
    running = await fill_lane(batcher, engine)
    largest = ask(batcher, *[item(3, 20)] * 10)
    await asyncio.sleep(0)
    small = ask(batcher, item(4))
    await asyncio.sleep(0)
    engine.gate.set()
    assert await small == [4]
    assert engine.batches[2] == [3, 4]
    assert not largest.done()
    assert await largest == [3] * 10
    await asyncio.gather(*running)


async def test_streams_wait_where_requests_are_refused(batcher: Batcher, engine: ScriptedEngine) -> None:
    """What comes by streams stands behind one window in common, and takes no room from requests."""
    running = await fill_lane(batcher, engine)
    streamed = [ask(batcher, item(3, 20), in_stream=True) for _ in range(20)]
    await asyncio.sleep(0)
    small = ask(batcher, item(4))
    await asyncio.sleep(0)
    engine.gate.set()
    assert await small == [4]
    assert engine.batches[2] == [3, 4]
    assert await asyncio.gather(*streamed) == [[3]] * 20
    await asyncio.gather(*running)


async def test_bundles_take_turns(batcher: Batcher, engine: ScriptedEngine) -> None:
    """A long line of one bundle does not hold up another's."""
    other = ScriptedEngine()
    other.gate, other.batches = engine.gate, engine.batches
    batcher.add_model("other", other, Speed(tokens=1000, seconds=1))  # type: ignore[arg-type]
    running = await fill_lane(batcher, engine)
    flood = [ask(batcher, item(3, BATCH_TOKENS)) for _ in range(6)]
    await asyncio.sleep(0)
    small = asyncio.create_task(batcher.run("other", [item(4)], None, lambda index, _: index))
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(*running, *flood, small)
    assert engine.batches[2] == [4]


async def test_batch_that_cannot_be_packed_fails_item_by_item(batcher: Batcher, engine: ScriptedEngine) -> None:
    """For want of memory, say: its batch-mates are answered, and nobody waits for ever."""
    running = await fill_lane(batcher, engine)
    engine.unpackable = 99
    good, bad, other = (ask(batcher, item(n)) for n in (3, 99, 5))
    await asyncio.sleep(0)
    engine.gate.set()
    results = await asyncio.gather(good, bad, other, return_exceptions=True)
    await asyncio.gather(*running)
    assert results[0] == [3]
    assert isinstance(results[1], MemoryError)
    assert results[2] == [5]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("bad_alloc")], ids=["Python", "ONNX Runtime"])
async def test_out_of_memory_is_survived(batcher: Batcher, engine: ScriptedEngine, error: Exception) -> None:
    """A batch too large for the memory is run item by item."""
    running = await fill_lane(batcher, engine)
    engine.most_items, engine.error = 1, error
    waiting = [ask(batcher, item(n)) for n in (3, 4, 5)]
    await asyncio.sleep(0)
    engine.gate.set()
    assert await asyncio.gather(*waiting) == [[3], [4], [5]]
    await asyncio.gather(*running)


async def test_result_that_cannot_be_finished_fails_alone(batcher: Batcher, engine: ScriptedEngine) -> None:
    """As an item that cannot be run."""
    running = await fill_lane(batcher, engine)
    bad = asyncio.create_task(batcher.run("m", [item(3)], None, lambda *_: 1 / 0))
    good = ask(batcher, item(4))
    await asyncio.sleep(0)
    engine.gate.set()
    with pytest.raises(ZeroDivisionError):
        await bad
    assert await good == [4]
    assert engine.batches == [[1], [2], [3, 4]]
    await asyncio.gather(*running)


async def test_wait_beyond_the_deadline_is_refused_early(batcher: Batcher, engine: ScriptedEngine) -> None:
    """A caller who would not live to see the answer is told at once."""
    running = await fill_lane(batcher, engine)
    waiting = [ask(batcher, item(3, 10)) for _ in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="outlast"):
        await ask(batcher, item(4), deadline=time.monotonic() + 0.05)
    with pytest.raises(Overloaded, match="outlast"):
        batcher.check_room("m", time.monotonic() + 0.05)
    engine.gate.set()
    await asyncio.gather(*running, *waiting)


async def test_hopeless_deadline_is_refused_by_an_idle_server(batcher: Batcher) -> None:
    """A deadline nearer than the request's own time is DeadlinePassed, not overload."""
    with pytest.raises(DeadlinePassed):
        await ask(batcher, item(1, 100), deadline=time.monotonic() + 0.01)


async def test_request_larger_than_the_queue_is_invalid(batcher: Batcher) -> None:
    """It would be refused for ever."""
    with pytest.raises(InvalidInput):
        await ask(batcher, *[item(1, 30)] * 10)


async def test_queue_gauges_return_to_zero(batcher: Batcher, engine: ScriptedEngine, metrics: Metrics) -> None:
    """After the last answer nothing is counted as waiting."""
    engine.gate.set()
    await asyncio.gather(*(ask(batcher, item(n)) for n in range(1, 20)))
    for gauge in ("queue_tokens", "queue_items", "queue_oldest_seconds", "estimated_wait_seconds"):
        assert sample(metrics, f"bertserve_{gauge}") == 0
