"""The line of a bundle: what it conserves, and how much of it one request, or all streams, may take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from bertserve.batching.line import Line, Request, Window
from bertserve.engine.items import Item, Wanted
from hypothesis import given
from hypothesis import strategies as st

WINDOW = 100


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def item(tokens: int) -> Item:
    ids = np.zeros(tokens, dtype=np.int64)
    return Item(input_ids=ids, token_type_ids=ids, wanted=Wanted())


def request(
    number: int, sizes: list[int], loop: asyncio.AbstractEventLoop, line: Line, *, in_stream: bool = False
) -> Request:
    return Request(
        number=number,
        items=[item(size) for size in sizes],
        tokens=sum(sizes),
        finish=lambda index, _: index,
        arrived=0.0,
        deadline=None,
        window=line.streams if in_stream else Window(line.backlog),
        ended=loop.create_future(),
    )


def assert_empty(line: Line) -> None:
    """Every count by itself, since two that are wrong may add up to zero."""
    for backlog in (line.backlog, line.streams.backlog):
        assert (backlog.tokens, backlog.items) == (0, 0)
    assert (line.tokens, line.streams.tokens, len(line)) == (0, 0, 0)


REQUESTS = st.lists(st.lists(st.integers(1, 150), min_size=1, max_size=20), max_size=10)


@given(REQUESTS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_every_item_comes_through_once_and_in_order(
    loop: asyncio.AbstractEventLoop, sizes: list[list[int]], in_streams: int, random: object
) -> None:
    """Whatever is taken when: nothing lost, nothing twice, a request's items in order, and all counts end at zero."""
    line = Line(WINDOW)
    requests = [request(number, own, loop, line, in_stream=number < in_streams) for number, own in enumerate(sizes)]
    for one in requests:
        line.join(one, 0.0)
    seen: list[tuple[int, int]] = []
    while line:
        waiting = list(line)
        place = random.randrange(len(waiting))  # type: ignore[attr-defined]
        first = next(one for one in waiting if one.request == waiting[place].request)
        entry = line.take(first.number, 0.0)
        seen.append((entry.request.number, entry.index))
    assert sorted(seen) == [(number, index) for number, own in enumerate(sizes) for index in range(len(own))]
    for number in range(len(sizes)):
        indexes = [index for owner, index in seen if owner == number]
        assert indexes == sorted(indexes)
    assert_empty(line)


@given(REQUESTS)
def test_window_bounds_what_a_request_has_in_line(loop: asyncio.AbstractEventLoop, sizes: list[list[int]]) -> None:
    """A window, or one larger item."""
    line = Line(WINDOW)
    for number, own in enumerate(sizes):
        line.join(request(number, own, loop, line), 0.0)
    for number in range(len(sizes)):
        own = [waiting.tokens for waiting in line if waiting.request == number]
        assert own
        assert len(own) == 1 or sum(own) <= WINDOW


def test_streams_share_one_window(loop: asyncio.AbstractEventLoop) -> None:
    """However many streams there are, a newcomer finds one window of theirs before it."""
    line = Line(WINDOW)
    for number in range(50):
        line.join(request(number, [30], loop, line, in_stream=True), 0.0)
    assert line.tokens == 90
    line.join(request(50, [10], loop, line), 0.0)
    assert [waiting.request for waiting in line] == [0, 1, 2, 50]


def test_newcomer_waits_for_one_window_of_a_large_request(loop: asyncio.AbstractEventLoop) -> None:
    """What follows of the large request stands behind the newcomer."""
    line = Line(WINDOW)
    line.join(request(0, [50] * 1000, loop, line), 0.0)
    line.join(request(1, [10], loop, line), 0.0)
    assert [waiting.request for waiting in line] == [0, 0, 1]
    line.take(next(iter(line)).number, 1.0)
    assert [(waiting.request, waiting.since) for waiting in line] == [(0, 0.0), (1, 0.0), (0, 1.0)]


@given(REQUESTS, st.data())
def test_dropped_request_leaves_nothing(
    loop: asyncio.AbstractEventLoop, sizes: list[list[int]], data: st.DataObject
) -> None:
    """Its items are counted and gone; everybody else's stay."""
    line = Line(WINDOW)
    requests = [request(number, own, loop, line, in_stream=number % 2 == 1) for number, own in enumerate(sizes)]
    for one in requests:
        line.join(one, 0.0)
    for one in data.draw(st.permutations(requests)):
        before = line.waiting_items
        dropped = line.drop(one, 0.0)
        assert dropped == len(one.items)
        assert before - dropped == line.waiting_items
        assert all(waiting.request != one.number for waiting in line)
    assert_empty(line)
