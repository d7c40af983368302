"""Batching decisions: what they conserve, and in what order they let items through."""

from __future__ import annotations

from itertools import pairwise

from bertserve.batching.policy import BatchLimits, Choice, Waiting, choose_batch, choose_model
from hypothesis import given
from hypothesis import strategies as st

LIMITS = BatchLimits(batch_tokens=100, overtaken_seconds=1.0)
NOW = 1000.0


def waiting(
    number: int, tokens: int, *, request: int | None = None, age: float = 0.0, deadline: float | None = None
) -> Waiting:
    return Waiting(
        number=number,
        request=number if request is None else request,
        tokens=tokens,
        since=NOW - age,
        deadline=deadline,
    )


@st.composite
def queues(draw: st.DrawFn) -> list[Waiting]:
    """Queues in order of arrival: older items come first."""
    ages = sorted(draw(st.lists(st.floats(0, 3), max_size=40)), reverse=True)
    return [
        waiting(
            number,
            draw(st.integers(1, 150)),
            request=draw(st.integers(0, 10)),
            age=age,
            deadline=draw(st.sampled_from([None, NOW - 0.1, NOW + 10])),
        )
        for number, age in enumerate(ages)
    ]


@given(queues())
def test_nothing_is_taken_twice_or_invented(queue: list[Waiting]) -> None:
    """Every chosen number is one of the queue's, once."""
    choice = choose_batch(queue, NOW, LIMITS)
    taken = choice.batch + choice.expired
    assert len(set(taken)) == len(taken)
    assert set(taken) <= {item.number for item in queue}


@given(queues())
def test_draining_the_queue_loses_nothing(queue: list[Waiting]) -> None:
    """Choosing until the queue is empty ends, and hands out every item exactly once."""
    left, seen = list(queue), []
    while left:
        choice = choose_batch(left, NOW, LIMITS)
        taken = set(choice.batch + choice.expired)
        assert taken
        seen += [*choice.batch, *choice.expired]
        left = [item for item in left if item.number not in taken]
    assert sorted(seen) == [item.number for item in queue]


@given(queues())
def test_budget_is_exceeded_by_a_lone_item_only(queue: list[Waiting]) -> None:
    """A batch of several items stays within the budget."""
    by_number = {item.number: item for item in queue}
    batch = choose_batch(queue, NOW, LIMITS).batch
    assert len(batch) <= 1 or sum(by_number[number].tokens for number in batch) <= LIMITS.batch_tokens


@given(queues())
def test_oldest_live_item_always_runs(queue: list[Waiting]) -> None:
    """Whatever its size, the oldest item whose deadline has not passed is in the batch."""
    live = [item.number for item in queue if item.deadline is None or item.deadline > NOW]
    batch = choose_batch(queue, NOW, LIMITS).batch
    assert batch[:1] == tuple(live[:1])


@given(queues())
def test_nobody_overtakes_an_item_past_the_bound(queue: list[Waiting]) -> None:
    """No item older than the bound is passed over by a younger one."""
    choice = choose_batch(queue, NOW, LIMITS)
    youngest = max(choice.batch, default=-1)
    left_behind = [
        item
        for item in queue
        if item.number < youngest
        and item.number not in choice.batch + choice.expired
        and NOW - item.since >= LIMITS.overtaken_seconds
    ]
    assert not left_behind


@given(queues())
def test_no_item_overtakes_one_of_its_own_request(queue: list[Waiting]) -> None:
    """Of each request a batch takes the first live ones of the line."""
    choice = choose_batch(queue, NOW, LIMITS)
    for request in {item.request for item in queue}:
        live = [item.number for item in queue if item.request == request and item.number not in choice.expired]
        taken = [number for number in live if number in choice.batch]
        assert taken == live[: len(taken)]


@given(queues())
def test_order_of_arrival_is_kept_within_a_batch(queue: list[Waiting]) -> None:
    """A batch lists its items in the order of the line."""
    batch = choose_batch(queue, NOW, LIMITS).batch
    assert all(first < second for first, second in pairwise(batch))


def test_short_item_overtakes_a_long_one() -> None:
    """What does not fit is left for the next batch, and the room is filled behind it."""
    queue = [waiting(0, 60), waiting(1, 90), waiting(2, 30)]
    assert choose_batch(queue, NOW, LIMITS) == Choice(batch=(0, 2), expired=())


def test_look_ahead_bounds_the_decision() -> None:
    """Items beyond the look-ahead are not considered."""
    limits = BatchLimits(batch_tokens=100, overtaken_seconds=1.0, look_ahead=2)
    assert choose_batch([waiting(n, 1) for n in range(5)], NOW, limits).batch == (0, 1)


def test_items_of_a_request_keep_their_order() -> None:
    """Behind a long item of its own request a short one waits, while other requests' items pass."""
    queue = [waiting(0, 60, request=1), waiting(1, 90, request=2), waiting(2, 10, request=2), waiting(3, 30, request=3)]
    assert choose_batch(queue, NOW, LIMITS).batch == (0, 3)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(-1, 50), min_size=1))
def test_bundles_take_turns(last_batches: dict[str, int]) -> None:
    """The one whose last batch is longest ago is next, so that none waits for more batches than there are others."""
    chosen = choose_model(last_batches)
    assert all(last_batches[chosen] <= number for number in last_batches.values())
