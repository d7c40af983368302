"""The queue at work, on the real lanes, with an engine of known behaviour at the seam."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from bertserve.batching.batcher import Batcher
from bertserve.batching.policy import BatchLimits, Speed
from bertserve.engine.items import Item, ItemOutputs, Wanted
from bertserve.engine.lanes import Lanes
from bertserve.engine.packing import PackedBatch, pack
from bertserve.errors import DeadlinePassed, InvalidInput, Overloaded
from bertserve.metrics import Metrics

POISON = 99
BATCH_TOKENS = 32
QUEUE_TOKENS = 200


class ScriptedEngine:
    """Answers each item with its first id; raises where an item holds POISON; runs only while its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)

    def pack(self, items: list[Item]) -> PackedBatch:
        return pack(items, position_offset=0)

    def run(self, batch: PackedBatch) -> list[ItemOutputs]:
        self.batches.append([int(item.input_ids[0]) for item in batch.items])
        self.entered.release()
        assert self.gate.wait(timeout=30)
        if any(POISON in item.input_ids for item in batch.items):
            raise RuntimeError("poisoned")
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


def ask(batcher: Batcher, *items: Item, deadline: float | None = None) -> asyncio.Task[list[int]]:
    """Send a request, and let it reach the queue."""

    async def run() -> list[int]:
        completed = await batcher.run("m", items, deadline)
        return [int(outputs.pooled[0]) for outputs in completed.outputs]  # type: ignore[index]

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
    waiting = ask(batcher, *[item(3, 20)] * 10)
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="full") as caught:
        await ask(batcher, item(4))
    assert caught.value.retry_after_seconds > 0
    assert sample(metrics, "bertserve_rejected_total", reason="queue_full") == 1
    engine.gate.set()
    assert await waiting == [3] * 10
    await asyncio.gather(*running)


async def test_wait_beyond_the_deadline_is_refused_early(batcher: Batcher, engine: ScriptedEngine) -> None:
    """A caller who would not live to see the answer is told at once."""
    running = await fill_lane(batcher, engine)
    waiting = ask(batcher, *[item(3, 10)] * 10)
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="outlast"):
        await ask(batcher, item(4), deadline=time.monotonic() + 0.05)
    engine.gate.set()
    await asyncio.gather(*running, waiting)


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
