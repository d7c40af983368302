"""Which items run next, and who is let in: pure, synchronous functions. No clock, thread or loop inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An item in the queue. number: order of arrival; arrived, deadline: seconds by one monotonic clock."""

    number: int
    model: str
    tokens: int
    arrived: float
    deadline: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """batch_tokens: budget of a batch. overtaken_seconds: age from which no younger item may overtake an item.

    look_ahead: waiting items considered for one batch, which bounds the time of a decision.
    """

    batch_tokens: int
    overtaken_seconds: float
    look_ahead: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Numbers of the items to run together, and of those seen on the way whose deadline has passed."""

    batch: tuple[int, ...]
    expired: tuple[int, ...]


def choose_batch(queue: Iterable[Waiting], now: float, limits: BatchLimits) -> Choice:
    """The next batch from a queue in order of arrival.

    The oldest live item always runs, even one larger than the budget, which then runs alone. Younger items of the same
    model fill the budget up; one that does not fit, or of another model, is overtaken, unless it has waited for longer
    than the bound: then the batch ends before it.
    """
    batch: list[int] = []
    expired: list[int] = []
    model: str | None = None
    room = 0
    for item in islice(queue, limits.look_ahead):
        if item.deadline is not None and item.deadline <= now:
            expired.append(item.number)
        elif model is None:
            batch.append(item.number)
            model, room = item.model, limits.batch_tokens - item.tokens
        elif item.model == model and item.tokens <= room:
            batch.append(item.number)
            room -= item.tokens
        elif now - item.arrived >= limits.overtaken_seconds:
            break
        if model is not None and room <= 0:
            break
    return Choice(batch=tuple(batch), expired=tuple(expired))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Tokens per second of one lane, from live batches: sums in which every batch weighs a tenth less than the next."""

    tokens: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    def after(self, tokens: int, seconds: float) -> Speed:
        """The speed once a batch of that size took that long."""
        return Speed(tokens=0.9 * self.tokens + tokens, seconds=0.9 * self.seconds + max(seconds, 1e-6))


class Refusal(StrEnum):
    """Why a request is not let in."""

    TOO_LARGE = "too_large"
    QUEUE_FULL = "queue_full"
    WAIT = "wait"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """wait_seconds: until an item arriving now would start. run_seconds: the request's own time on idle lanes."""

    queued_tokens: int
    queue_limit_tokens: int
    wait_seconds: float
    run_seconds: float


def refuse(tokens: int, remaining_seconds: float | None, load: Load) -> Refusal | None:
    """Whether to refuse a request of so many tokens, whose caller waits for so long (None: for ever)."""
    if tokens > load.queue_limit_tokens:
        return Refusal.TOO_LARGE
    if remaining_seconds is not None and load.run_seconds > remaining_seconds:
        return Refusal.DEADLINE
    if load.queued_tokens + tokens > load.queue_limit_tokens:
        return Refusal.QUEUE_FULL
    if remaining_seconds is not None and load.wait_seconds + load.run_seconds > remaining_seconds:
        return Refusal.WAIT
    return None
