"""Callers who leave, and deadlines that pass: before, in and after the queue, and while the server drains.

What is left behind costs nothing more, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from pathlib import Path

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.batching.batcher import Batcher
from bertserve.deadlines import has_passed
from bertserve.errors import DeadlinePassed
from bertserve.observe.metrics import Metrics
from scripted_engine import ScriptedEngine, ask, fill_lane, item, sample
from servers import PRETRAINING, RunningServer, running_server

FAULTY_SERVER = Path(__file__).parents[1] / "faulty_server.py"
REQUEST = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat on the mat")])
CALLS = 'grpc_method="Embed",grpc_service="bertapi.v1.BertService",grpc_type="unary"'


def tokens_run(server: RunningServer) -> float:
    return server.sample('bertserve_tokens_total{model="pretraining"}')


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


async def test_cancelled_request_in_the_ready_batch_does_not_run(
    batcher: Batcher, engine: ScriptedEngine, metrics: Metrics
) -> None:
    """The lane leaves it out when it takes the batch, and it counts as dropped."""
    running = await fill_lane(batcher, engine)
    running[1].cancel()
    await asyncio.gather(running[1], return_exceptions=True)
    engine.gate.set()
    assert await running[0] == [1]
    assert await ask(batcher, item(7)) == [7]
    assert engine.batches == [[1], [7]]
    assert sample(metrics, "bertserve_dropped_total", reason="cancelled") == 1


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


async def test_caller_who_leaves_while_his_batch_runs_disturbs_nobody(batcher: Batcher, engine: ScriptedEngine) -> None:
    """The run goes on, for its batch-mates; what comes of the leaver's part is thrown away."""
    running = await fill_lane(batcher, engine)
    leaving, staying = ask(batcher, item(3)), ask(batcher, item(4))
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(*running)
    engine.gate.clear()
    await asyncio.to_thread(engine.wait_until_entered)
    await asyncio.to_thread(engine.wait_until_entered)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    engine.gate.set()
    assert await staying == [4]
    assert engine.batches[2] == [3, 4]


async def test_deadline_that_passes_mid_batch_disturbs_nobody(batcher: Batcher, engine: ScriptedEngine) -> None:
    """gRPC cancels the late call; the others in the batch get their answers, the queue's gauges go to zero."""
    late = asyncio.create_task(asyncio.wait_for(ask(batcher, item(1)), 0.05))
    other = ask(batcher, item(2))
    with pytest.raises(TimeoutError):
        await late
    engine.gate.set()
    assert await other == [2]


async def test_caller_who_leaves_after_the_answer_changes_nothing(batcher: Batcher, engine: ScriptedEngine) -> None:
    """Cancelling what has ended is no news to the queue."""
    engine.gate.set()
    done = ask(batcher, item(1))
    assert await done == [1]
    assert not done.cancel()
    assert await ask(batcher, item(2)) == [2]


async def test_tokens_run_are_those_of_the_answered_and_of_what_ran_already(
    batcher: Batcher, engine: ScriptedEngine, metrics: Metrics
) -> None:
    """A third of a thousand callers leaves at random moments: whoever stays is answered, whoever left while waiting
    cost nothing, and what ran is what was answered or was in a batch when its caller left."""
    dice = random.Random(1)  # noqa: S311
    engine.gate.set()
    callers = []
    for number in range(1000):
        callers.append((number, ask(batcher, item(number % 90))))
        if dice.random() < 0.3:
            await asyncio.sleep(0)
            dice.choice(callers)[1].cancel()
        if number % 20 == 0:
            await asyncio.gather(*(caller for _, caller in callers), return_exceptions=True)
    await asyncio.gather(*(caller for _, caller in callers), return_exceptions=True)
    answered = [number for number, caller in callers if not caller.cancelled()]
    assert all(callers[number][1].result() == [number % 90] for number in answered)
    ran = sample(metrics, "bertserve_tokens_total")
    dropped = sample(metrics, "bertserve_dropped_total", reason="cancelled")
    assert 4 * len(answered) <= ran <= 4 * (1000 - dropped)
    assert sample(metrics, "bertserve_queue_items") == 0


def test_caller_who_left_before_is_not_run_for() -> None:
    """Calls cancelled at once, by the hundred: the engine runs little of them, and serves who comes next."""
    with running_server(PRETRAINING) as server, grpc.insecure_channel(server.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        stub.Embed(REQUEST, timeout=60)
        per_call = tokens_run(server)
        for _ in range(300):
            stub.Embed.future(REQUEST, timeout=60).cancel()
        assert stub.Embed(REQUEST, timeout=60).embeddings
        assert tokens_run(server) <= 302 * per_call
        assert server.sample('bertserve_queue_items{model="pretraining"}') == 0


def test_deadline_in_the_queue_of_a_busy_server(tmp_path: Path) -> None:
    """The caller hears DEADLINE_EXCEEDED in time; what waited is dropped, and never run."""
    stall = tmp_path / "stall"
    environment = {"STALL_WHILE": str(stall)}
    with (
        running_server(PRETRAINING, environment=environment, program=FAULTY_SERVER) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = pb_grpc.BertServiceStub(channel)
        stub.Embed(REQUEST, timeout=60)
        per_call = tokens_run(server)
        stall.touch()
        # Each of its own length, so that batches stay apart: three are with the lanes, or ready, the rest waits.
        blockers = [stub.Embed.future(pb.EmbedRequest(inputs=REQUEST.inputs[:] * 200), timeout=60)]
        server.wait_for(f"grpc_server_started_total{{{CALLS}}}", 2)
        late = [stub.Embed.future(REQUEST, timeout=0.5) for _ in range(20)]
        assert {call.code() for call in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        stall.unlink()
        assert {call.code() for call in blockers} == {grpc.StatusCode.OK}
        assert stub.Embed(REQUEST, timeout=60).embeddings
        assert tokens_run(server) == per_call * 202
        assert server.sample('bertserve_dropped_total{model="pretraining",reason="expired"}') == 20


def test_deadline_that_passes_mid_batch_is_told_from_a_caller_who_leaves(tmp_path: Path) -> None:
    """gRPC cancels either call; they are counted as DeadlineExceeded and Canceled."""
    stall = tmp_path / "stall"
    environment = {"STALL_WHILE": str(stall)}
    with (
        running_server(PRETRAINING, environment=environment, program=FAULTY_SERVER) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = pb_grpc.BertServiceStub(channel)
        stall.touch()
        late = stub.Embed.future(REQUEST, timeout=0.5)
        leaving = stub.Embed.future(REQUEST, timeout=60)
        server.wait_for(f"grpc_server_started_total{{{CALLS}}}", 2)
        leaving.cancel()
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        for code in ("DeadlineExceeded", "Canceled"):
            server.wait_for(f'grpc_server_handled_total{{grpc_code="{code}",{CALLS}}}', 1)
        stall.unlink()


@pytest.mark.parametrize(
    ("remaining", "waited", "is_late"), [(0.0, 1.0, True), (0.09, 9.9, True), (0.2, 9.8, False), (1.0, 1.0, False)]
)
def test_deadline_has_passed_within_what_grpc_rounds(remaining: float, waited: float, is_late: bool) -> None:
    """A hundredth of the caller's time, and what headers take on their way."""
    assert has_passed(remaining, waited) is is_late


def test_caller_who_leaves_during_drain_ends_it_sooner(tmp_path: Path) -> None:
    """The process waits for open calls, and not for those whose callers have gone."""
    stall = tmp_path / "stall"
    environment = {"STALL_WHILE": str(stall)}
    with (
        running_server(PRETRAINING, "--grace", "60", environment=environment, program=FAULTY_SERVER) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stall.touch()
        calls = [pb_grpc.BertServiceStub(channel).Embed.future(REQUEST, timeout=60) for _ in range(5)]
        server.wait_for(f"grpc_server_started_total{{{CALLS}}}", 5)
        server.process.send_signal(signal.SIGTERM)
        threading.Event().wait(0.5)
        assert server.process.poll() is None
        for call in calls:
            call.cancel()
        assert server.process.wait(timeout=30) == 0
