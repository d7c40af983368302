"""The line of one bundle: what waits, in the order in which it may run. No clock, thread or loop inside.

A request has a window of tokens in line. The rest waits in the backlog and follows at the end of the line, as soon as
the window has room. So the largest request delays its neighbours by one window, and items of requests that arrive
together take turns. All streams together share one window.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bertserve.batching.policy import Waiting
from bertserve.engine.items import Item, ItemOutputs


@dataclass(slots=True, eq=False)
class Backlog:
    """How much waits behind the line."""

    tokens: int = 0
    items: int = 0

    def add(self, tokens: int, items: int) -> None:
        """Count what comes, or what goes if both are negative."""
        self.tokens += tokens
        self.items += items


@dataclass(slots=True, eq=False)
class Window:
    """Room in line for one request, or for those of all streams together, first come first served."""

    #: Counts what its requests have behind the line.
    backlog: Backlog
    #: Tokens that its requests have in line.
    tokens: int = 0
    #: Requests that have items behind the line, or had some when they joined.
    requests: deque[Request] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Request:
    """Items of one caller, on their way. tokens: of all items together. next_index: of the first item that is not in
    line yet."""

    number: int
    items: Sequence[Item]
    tokens: int
    finish: Callable[[int, ItemOutputs], Any]
    arrived: float
    deadline: float | None
    window: Window
    ended: asyncio.Future[None]
    next_index: int = 0
    in_line: set[int] = field(default_factory=set)
    results: list[Any] = field(init=False)
    open_items: int = field(init=False)
    first_started: float = float("inf")
    last_finished: float = 0.0

    def __post_init__(self) -> None:
        self.results = [None] * len(self.items)
        self.open_items = len(self.items)

    @property
    def is_live(self) -> bool:
        return not self.ended.done()

    @property
    def backlog(self) -> Sequence[Item]:
        """The items that are not in line yet."""
        return self.items[self.next_index :]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An item in line or in a batch. index: its place in the request."""

    waiting: Waiting
    item: Item
    request: Request
    index: int


class Line:
    """The items of one bundle that may run next, oldest first, and what waits behind them."""

    def __init__(self, window_tokens: int) -> None:
        self.tokens = 0
        self.backlog = Backlog()
        self.streams = Window(Backlog())
        self._window_tokens = window_tokens
        # Not a dict, which looks for its first entry among all that are gone.
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Waiting]:
        return (entry.waiting for entry in self._entries.values())

    def __contains__(self, number: int) -> bool:
        return number in self._entries

    @property
    def waiting_tokens(self) -> int:
        """Tokens in line and behind it."""
        return self.tokens + self.backlog.tokens + self.streams.backlog.tokens

    @property
    def waiting_items(self) -> int:
        """Items in line and behind it."""
        return len(self) + self.backlog.items + self.streams.backlog.items

    def request_of(self, number: int) -> Request:
        return self._entries[number].request

    def requests(self) -> Iterator[Request]:
        """All that wait, one of them perhaps several times."""
        yield from (entry.request for entry in self._entries.values())
        yield from self.streams.requests

    def join(self, request: Request, now: float) -> None:
        """Put a request at the end of the line, and what does not fit into its window behind it."""
        request.window.backlog.add(request.tokens, len(request.items))
        request.window.requests.append(request)
        self._advance(request.window, now)

    def take(self, number: int, now: float) -> Entry:
        """Take an item out; what waits behind it follows at the end of the line."""
        entry = self._remove(number)
        self._advance(entry.request.window, now)
        return entry

    def drop(self, request: Request, now: float) -> int:
        """Take out all that still waits of a request. Returns how many items that was."""
        backlog = request.backlog
        count = len(request.in_line) + len(backlog)
        request.window.backlog.add(-sum(item.length for item in backlog), -len(backlog))
        request.next_index = len(request.items)
        for number in tuple(request.in_line):
            self._remove(number)
        self._advance(request.window, now)
        return count

    def _remove(self, number: int) -> Entry:
        entry = self._entries.pop(number)
        entry.request.in_line.discard(number)
        entry.request.window.tokens -= entry.waiting.tokens
        self.tokens -= entry.waiting.tokens
        return entry

    def _advance(self, window: Window, now: float) -> None:
        """Let items into line as far as their window goes; a larger item has it to itself."""
        while window.requests:
            request = window.requests[0]
            if request.next_index == len(request.items):
                window.requests.popleft()
                continue
            tokens = request.items[request.next_index].length
            if window.tokens and window.tokens + tokens > self._window_tokens:
                return
            self._enter(request, tokens, now)

    def _enter(self, request: Request, tokens: int, now: float) -> None:
        number, index = next(self._numbers), request.next_index
        waiting = Waiting(number=number, request=request.number, tokens=tokens, since=now, deadline=request.deadline)
        self._entries[number] = Entry(waiting, request.items[index], request, index)
        request.in_line.add(number)
        request.next_index += 1
        request.window.backlog.add(-tokens, -1)
        request.window.tokens += tokens
        self.tokens += tokens
