"""The line of one bundle: what waits, in the order in which it may run. No clock, thread or loop inside.

Of every request a window of tokens stands in line; the rest waits behind it and follows, at the end of the line, as
what is before it is taken. So the largest request delays its neighbours by one window, and items of requests that
arrive together take turns. All streams together share one window.
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
class Share:
    """Requests that have one window in common, first come first served: a lone one, or those of all streams."""

    in_line_tokens: int = 0
    tokens_behind: int = 0
    behind: deque[Request] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Request:
    """Items of one caller, on their way. next_index: of the first item that is not in line yet."""

    number: int
    items: Sequence[Item]
    finish: Callable[[int, ItemOutputs], Any]
    arrived: float
    deadline: float | None
    share: Share
    ended: asyncio.Future[None]
    tokens_behind: int
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
        self.tokens_behind = 0
        self.items_behind = 0
        self.streams = Share()
        self._window_tokens = window_tokens
        self._entries: OrderedDict[int, Entry] = (
            OrderedDict()
        )  # a dict looks for its first entry among all that are gone
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Waiting]:
        return (entry.waiting for entry in self._entries.values())

    def __contains__(self, number: int) -> bool:
        return number in self._entries

    def request_of(self, number: int) -> Request:
        return self._entries[number].request

    def requests(self) -> Iterator[Request]:
        """All that wait, one of them perhaps several times."""
        yield from (entry.request for entry in self._entries.values())
        yield from self.streams.behind

    def tokens_ahead(self, tokens: int) -> int:
        """What runs before the last item of a request of so many tokens that would join now: in every round through the
        line each request gets a window."""
        rounds = -(-tokens // self._window_tokens)
        return min(rounds * self.tokens, self.tokens + self.tokens_behind)

    def join(self, request: Request, now: float) -> None:
        """Put a request at the end of the line, and what does not fit into its share's window behind it."""
        self._move_behind(request, request.tokens_behind)
        self.items_behind += len(request.items)
        request.share.behind.append(request)
        self._advance(request.share, now)

    def take(self, number: int, now: float) -> Entry:
        """Take an item out; what waits behind it follows at the end of the line."""
        entry = self._remove(number)
        self._advance(entry.request.share, now)
        return entry

    def drop(self, request: Request, now: float) -> int:
        """Take out all that still waits of a request. Returns how many items that was."""
        count = len(request.in_line) + len(request.items) - request.next_index
        self._move_behind(request, -request.tokens_behind)
        self.items_behind -= len(request.items) - request.next_index
        request.tokens_behind, request.next_index = 0, len(request.items)
        for number in tuple(request.in_line):
            self._remove(number)
        self._advance(request.share, now)
        return count

    def _remove(self, number: int) -> Entry:
        entry = self._entries.pop(number)
        entry.request.in_line.discard(number)
        entry.request.share.in_line_tokens -= entry.waiting.tokens
        self.tokens -= entry.waiting.tokens
        return entry

    def _advance(self, share: Share, now: float) -> None:
        """Let items of a share into line as far as its window goes; a larger item has it to itself."""
        while share.behind:
            request = share.behind[0]
            if request.next_index == len(request.items):
                share.behind.popleft()
                continue
            tokens = request.items[request.next_index].length
            if share.in_line_tokens and share.in_line_tokens + tokens > self._window_tokens:
                return
            self._enter(request, tokens, now)

    def _enter(self, request: Request, tokens: int, now: float) -> None:
        number, index = next(self._numbers), request.next_index
        waiting = Waiting(number=number, request=request.number, tokens=tokens, since=now, deadline=request.deadline)
        self._entries[number] = Entry(waiting, request.items[index], request, index)
        request.in_line.add(number)
        request.next_index += 1
        request.tokens_behind -= tokens
        request.share.in_line_tokens += tokens
        self.tokens += tokens
        self._move_behind(request, -tokens)
        self.items_behind -= 1

    def _move_behind(self, request: Request, tokens: int) -> None:
        request.share.tokens_behind += tokens
        self.tokens_behind += tokens
