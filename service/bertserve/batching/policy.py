"""Which items run next: pure, synchronous functions. No clock, thread or loop inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An item that stands in line. number: its place, ascending; request: whose it is.

    since, deadline: seconds by one monotonic clock; `since` is when it came to stand in line.
    """

    number: int
    request: int
    tokens: int
    since: float
    deadline: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """batch_tokens: budget of a batch. overtaken_seconds: time in line from which nobody may overtake an item.

    look_ahead: items considered for one batch, which bounds the time of a decision.
    """

    batch_tokens: int
    overtaken_seconds: float
    look_ahead: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Numbers of the items to run together, and of those seen on the way whose deadline has passed."""

    batch: tuple[int, ...]
    expired: tuple[int, ...]


def choose_batch(line: Iterable[Waiting], now: float, limits: BatchLimits) -> Choice:
    """The next batch from the line of one bundle.

    The first live item always runs, even one larger than the budget, which then runs alone. Later ones fill the budget
    up; one that does not fit is overtaken by other requests' items, though never by its own request's, unless it has
    stood in line for longer than the bound: then the batch ends before it.
    """
    batch: list[int] = []
    expired: list[int] = []
    overtaken: set[int] = set()
    room = limits.batch_tokens
    for item in islice(line, limits.look_ahead):
        if item.deadline is not None and item.deadline <= now:
            expired.append(item.number)
        elif not batch or (item.tokens <= room and item.request not in overtaken):
            batch.append(item.number)
            room -= item.tokens
            if room <= 0:
                break
        elif now - item.since >= limits.overtaken_seconds:
            break
        else:
            overtaken.add(item.request)
    return Choice(batch=tuple(batch), expired=tuple(expired))


def choose_model(last_batches: Mapping[str, int]) -> str:
    """Which bundle's line the next batch comes from: of those that have one, whose last batch is longest ago.

    last_batches: number of each bundle's last batch.
    """
    return min(last_batches, key=last_batches.__getitem__)
