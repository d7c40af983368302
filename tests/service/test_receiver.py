"""When a request is received: which slots a connection waits for, and what becomes of requests that do not come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import grpc
import pytest
from bertserve.doors.grpc.intake import receiver
from bertserve.doors.grpc.intake.receiver import LARGE_SLOTS, NEW_SLOTS, REMEMBERED_CONNECTIONS, Receiver
from bertserve.doors.grpc.intake.throttle import LARGE_BYTES_PER_SECOND, LONGEST_SECONDS, LargeRequestThrottle
from bertserve.errors import Overloaded, Undecodable

SMALL, LARGE = b"small", b"l" * 100_000


@dataclass(eq=False)
class Call:
    """A call whose message comes when the test says so. reads: how often the receiver asked for the message."""

    connection: str
    message: asyncio.Future[object] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    reads: int = 0

    def peer(self) -> str:
        return self.connection

    async def read(self) -> object:
        self.reads += 1
        return await self.message


def came(connection: str, message: object) -> Call:
    call = Call(connection)
    call.message.set_result(message)
    return call


def receive(receiver: Receiver, call: Call) -> asyncio.Task[bytes]:
    return asyncio.ensure_future(receiver.receive(call))  # type: ignore[arg-type] # gRPC makes its contexts itself


async def receive_all(receiver: Receiver, *calls: Call) -> None:
    await asyncio.gather(*(receive(receiver, call) for call in calls))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


PATIENT_SECONDS, IMPATIENT_SECONDS = 3600.0, 0.01


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of which nothing comes keeps its slot for as long as the test takes."""
    monkeypatch.setattr(receiver, "PROMPT_SECONDS", PATIENT_SECONDS)


@pytest.fixture
def one_slow_slot() -> Receiver:
    return Receiver(slow_slots=1, largest_bytes=10**6)


async def test_new_connections_share_few_slots(one_slow_slot: Receiver) -> None:
    """The others are not read from until a slot is free."""
    calls = [Call(str(number)) for number in range(NEW_SLOTS + 1)]
    tasks = [receive(one_slow_slot, call) for call in calls]
    await settle()
    assert [call.reads for call in calls] == [1] * NEW_SLOTS + [0]
    calls[0].message.set_result(SMALL)
    assert await tasks[0] == SMALL
    await settle()
    assert calls[-1].reads == 1
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await receive(one_slow_slot, came("later", SMALL)) == SMALL


@pytest.mark.parametrize("blocked", ["new", "large"])
async def test_a_connection_that_sends_small_requests_waits_for_no_other_kind(
    one_slow_slot: Receiver, blocked: str
) -> None:
    """New connections, or those that send large requests, may have taken all of their slots."""
    await receive_all(one_slow_slot, came("known", SMALL), came("heavy", LARGE))
    connection = "heavy" if blocked == "large" else "stranger"
    others = [receive(one_slow_slot, Call(connection)) for _ in range(NEW_SLOTS + LARGE_SLOTS)]
    await settle()
    assert await receive(one_slow_slot, came("known", SMALL)) == SMALL
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_a_newcomer_waits_for_no_connection_that_sends_large_requests(one_slow_slot: Receiver) -> None:
    """These have slots of their own."""
    await receive_all(one_slow_slot, came("heavy", LARGE))
    others = [receive(one_slow_slot, Call("heavy")) for _ in range(NEW_SLOTS + LARGE_SLOTS)]
    await settle()
    assert await receive(one_slow_slot, came("new", SMALL)) == SMALL
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_small_requests_make_up_for_a_large_one(one_slow_slot: Receiver) -> None:
    """A connection that sent a large request waits with its like until it has sent a few small ones."""
    blocking = [Call("heavy") for _ in range(LARGE_SLOTS)]
    await receive_all(one_slow_slot, came("heavy", LARGE), came("mixed", LARGE))
    others = [receive(one_slow_slot, call) for call in blocking]
    await settle()
    waiting = receive(one_slow_slot, came("mixed", SMALL))
    await settle()
    assert not waiting.done()
    blocking[0].message.set_result(SMALL)
    assert await waiting == SMALL
    for call in blocking[1:]:
        call.message.set_result(SMALL)
    await asyncio.gather(*others)
    again = [receive(one_slow_slot, Call("heavy")) for _ in range(LARGE_SLOTS)]
    assert await receive(one_slow_slot, came("mixed", SMALL)) == SMALL
    for other in again:
        other.cancel()
    await asyncio.gather(*again, return_exceptions=True)


async def test_a_slow_request_beyond_the_slow_slots_is_rejected(
    one_slow_slot: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one in the slow slot is received whenever it comes, and its connection is judged by its size as any other."""
    monkeypatch.setattr(receiver, "PROMPT_SECONDS", IMPATIENT_SECONDS)
    await receive_all(one_slow_slot, came("known", SMALL))
    first, second = Call("known"), Call("late")
    slow, rejected = receive(one_slow_slot, first), receive(one_slow_slot, second)
    with pytest.raises(Overloaded, match="comes slowly, and others do already: 1 of them may"):
        await rejected
    first.message.set_result(SMALL)
    assert await slow == SMALL
    monkeypatch.setattr(receiver, "PROMPT_SECONDS", PATIENT_SECONDS)
    others = [receive(one_slow_slot, Call("late")) for _ in range(LARGE_SLOTS)]
    await settle()
    assert await receive(one_slow_slot, came("known", SMALL)) == SMALL
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_a_request_that_never_comes_whole_gives_its_slow_slot_back(
    one_slow_slot: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rejected, and the next slow one has its slot."""
    monkeypatch.setattr(receiver, "PROMPT_SECONDS", IMPATIENT_SECONDS)
    monkeypatch.setattr(receiver, "SLOWEST_SECONDS", IMPATIENT_SECONDS)
    for _ in range(2):
        with pytest.raises(Overloaded, match="not come whole"):
            await receive(one_slow_slot, Call("late"))


async def test_a_call_that_ends_without_a_message_is_undecodable(one_slow_slot: Receiver) -> None:
    """And gives its slot back."""
    for _ in range(NEW_SLOTS + 1):
        with pytest.raises(Undecodable):
            await receive(one_slow_slot, came("a", grpc.aio.EOF))


async def test_connections_beyond_a_bound_are_forgotten(one_slow_slot: Receiver) -> None:
    """The oldest first; it is new again, and waits with the new ones."""
    for number in range(REMEMBERED_CONNECTIONS + 1):
        await receive(one_slow_slot, came(str(number), SMALL))
    others = [receive(one_slow_slot, Call("new")) for _ in range(NEW_SLOTS)]
    await settle()
    assert await receive(one_slow_slot, came("1", SMALL)) == SMALL
    forgotten = receive(one_slow_slot, came("0", SMALL))
    await settle()
    assert not forgotten.done()
    for other in (*others, forgotten):
        other.cancel()
    await asyncio.gather(*others, forgotten, return_exceptions=True)


async def test_calls_beyond_the_queue_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of the connection that has most of them."""
    monkeypatch.setattr(receiver, "MAX_WAITING", 2)
    crowded = Receiver(slow_slots=1, largest_bytes=10**6)
    calls = [receive(crowded, Call("busy")) for _ in range(NEW_SLOTS + 2)]
    await settle()
    other = receive(crowded, Call("other"))
    with pytest.raises(Overloaded, match="too many requests are on their way"):
        await calls[-1]
    assert not other.done()
    for call in (*calls, other):
        call.cancel()
    await asyncio.gather(*calls, other, return_exceptions=True)


async def test_large_requests_wait_for_a_while_after_one_another() -> None:
    """However large they were, and however many came at once, for no longer than a bound."""
    throttle = LargeRequestThrottle()
    assert throttle.seconds_left() <= 0
    for _ in range(10):
        throttle.add(LARGE_BYTES_PER_SECOND)
    assert 0 < throttle.seconds_left() <= LONGEST_SECONDS
