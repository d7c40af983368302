"""The queue at work, on the real lanes, with an engine of known behaviour at the seam."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from bertserve.batching.admission import Speed
from bertserve.batching.batcher import Batcher
from bertserve.errors import DeadlinePassed, InvalidInput, Overloaded
from bertserve.observe.metrics import Metrics
from scripted_engine import BATCH_TOKENS, POISON, ScriptedEngine, ask, fill_lane, item, sample


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


async def test_full_queue_refuses_with_a_time_to_retry(
    batcher: Batcher, engine: ScriptedEngine, metrics: Metrics
) -> None:
    """Beyond the bound nothing is let in; what was let in is answered."""
    running = await fill_lane(batcher, engine)
    waiting = [ask(batcher, item(3, 20)) for _ in range(10)]
    await asyncio.sleep(0)
    full = (
        r"the queue is full: \d+ tokens wait, this request adds \d+ or more, \d+ may wait \(the server's --queue-tokens"
    )
    with pytest.raises(Overloaded, match=full) as caught:
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
    batcher.add_model("other", other, Speed(tokens=1000, seconds=1))
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
    with pytest.raises(Overloaded, match="outlast") as caught:
        await ask(batcher, item(4), deadline=time.monotonic() + 0.05)
    answer_seconds, line_seconds = map(float, re.findall(r"([\d.]+) s", str(caught.value)))
    assert answer_seconds > line_seconds > 0
    with pytest.raises(Overloaded, match="outlast"):
        batcher.check_room("m", time.monotonic() + 0.05)
    engine.gate.set()
    await asyncio.gather(*running, *waiting)


async def test_turns_of_a_slower_bundle_count_in_the_wait(batcher: Batcher, engine: ScriptedEngine) -> None:
    """Nothing of the own bundle waits, but the other one takes seconds between its batches; alone it takes none."""
    slow = ScriptedEngine()
    slow.gate = engine.gate
    batcher.add_model("slow", slow, Speed(tokens=10, seconds=1))
    running = await fill_lane(batcher, engine)
    request = [item(3, BATCH_TOKENS)] * 4
    batcher.check_room("m", time.monotonic() + 1, BATCH_TOKENS * 4)
    waiting = asyncio.create_task(batcher.run("slow", [item(4, BATCH_TOKENS)] * 4, None, lambda index, _: index))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="may outlast the deadline"):
        await ask(batcher, *request, deadline=time.monotonic() + 1)
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
