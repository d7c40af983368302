"""Slots that connections share: none idle while a call waits, and no connection keeps another one out."""

from __future__ import annotations

from bertserve.doors.grpc.intake.slots import FairSlots
from hypothesis import given
from hypothesis import strategies as st

MAX_WAITING = 6


@given(
    st.integers(1, 4),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(["arrive", "give back", "leave"]), st.sampled_from("abc")), max_size=60),
)
def test_slots_go_round_robin_by_connection(count: int, newest_first: bool, events: list[tuple[str, str]]) -> None:
    """Never more than `count` are taken, none is free while a call waits, and no waiter is forgotten.

    When the queues are full, the longest one loses its newest waiter. A connection that begins to wait is the last in
    the round, or the first if the newest goes first.
    """
    slots: FairSlots[int] = FairSlots(count, MAX_WAITING, newest_first=newest_first)
    taken, queues = set[int](), dict[str, list[int]]()  # the connection whose turn is next comes first
    for number, (event, connection) in enumerate(events):
        own = queues.get(connection, [])
        if event == "arrive" and slots.take():
            assert not queues
            taken.add(number)
        elif event == "arrive":
            if newest_first and not own:
                queues = {connection: [], **queues}
            queues.setdefault(connection, []).append(number)
            dropped = slots.wait(connection, number)
            if sum(map(len, queues.values())) > MAX_WAITING:
                assert dropped == drop_newest(queues, connection)
            else:
                assert dropped is None
        elif event == "leave" and own:
            slots.leave(connection, own.pop(len(own) // 2))
        elif event == "give back" and taken:
            taken.pop()
            first = next(iter(queues), "")
            queue = queues.pop(first, [])
            following = slots.give_back()
            assert following == (queue.pop(0) if queue else None)
            taken |= {following} if following is not None else set()
            queues[first] = queue
        queues = {other: queue for other, queue in queues.items() if queue}
        assert len(taken) <= count
        assert slots.waiting == sum(map(len, queues.values())) <= MAX_WAITING
        assert not queues or len(taken) == count


def drop_newest(queues: dict[str, list[int]], arrived: str) -> int:
    """Of the longest queue; a connection that has just arrived keeps its waiter if another queue is as long."""
    length = max(map(len, queues.values()))
    longest = [connection for connection, queue in queues.items() if len(queue) == length]
    others = [connection for connection in longest if connection != arrived]
    return queues[(others or longest)[0]].pop()


def test_a_waiter_that_has_left_is_not_left_twice() -> None:
    """A call that is cancelled just when it is dropped changes no count."""
    slots: FairSlots[int] = FairSlots(1, MAX_WAITING)
    assert slots.take()
    assert slots.wait("a", 1) is None
    slots.leave("a", 1)
    slots.leave("a", 1)
    assert slots.waiting == 0
    assert slots.give_back() is None
    assert slots.take()
