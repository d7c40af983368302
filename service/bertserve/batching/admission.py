"""Who is let in: pure, synchronous functions of the load and the measured speed. No clock, thread or loop inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# Where callers wait as long as they can, each request that is let in would end just at its deadline, and a slower
# moment would fail them all. A quarter of their time is kept free for such moments; the rest keeps lanes busy enough.
CAUTION = 4 / 3


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another bundle that has a line, in lane time. waiting_seconds: all that waits there; batch_seconds: one batch.

    is_next: its turn comes before that of the bundle in question.
    """

    waiting_seconds: float
    batch_seconds: float
    is_next: bool


def estimate_wait(ahead_seconds: float, turns: int, neighbours: Iterable[Neighbour], lanes: int) -> float:
    """Seconds until the last of a bundle's next `turns` batches starts, on lanes that serve all bundles in turn.

    ahead_seconds: lane time of what waits before it. Neighbours take turns only as long as they have work.
    """
    theirs = sum(
        min(neighbour.waiting_seconds, (turns if neighbour.is_next else turns - 1) * neighbour.batch_seconds)
        for neighbour in neighbours
    )
    return (ahead_seconds + theirs) / lanes


def estimate_rest(tokens: int, tokens_per_second: float, started: float | None, now: float) -> float:
    """Seconds that a batch still has a lane to itself; None for one that no lane has taken yet."""
    return max(0.0, tokens / tokens_per_second - (0.0 if started is None else now - started))


class Refusal(StrEnum):
    """Why a request is not let in."""

    TOO_LARGE = "too_large"
    QUEUE_FULL = "queue_full"
    WAIT = "wait"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """line_tokens, backlog_tokens: what waits of a bundle, in line and behind it; each is bounded by limit_tokens. The
    backlog of streams is not counted: each stream is bounded by itself.

    window_tokens: what one request may have in line. wait_seconds: until the request's last item would start.
    run_seconds: the request's own time on idle lanes. batch_seconds: of the batch that its last item would share.
    """

    line_tokens: int
    backlog_tokens: int
    limit_tokens: int
    window_tokens: int
    wait_seconds: float
    run_seconds: float
    batch_seconds: float

    @property
    def expected_seconds(self) -> float:
        """Until the request's answer."""
        return self.wait_seconds + max(self.run_seconds, self.batch_seconds)


def refuse(tokens: int, remaining_seconds: float | None, load: Load) -> Refusal | None:
    """Whether to refuse a request of so many tokens, whose caller waits for so long (None: for ever)."""
    if tokens > load.limit_tokens:
        return Refusal.TOO_LARGE
    if remaining_seconds is not None and load.run_seconds > remaining_seconds:
        return Refusal.DEADLINE
    in_line = min(tokens, load.window_tokens)
    behind = tokens - in_line
    if load.line_tokens + in_line > load.limit_tokens or (behind and load.backlog_tokens + behind > load.limit_tokens):
        return Refusal.QUEUE_FULL
    if remaining_seconds is not None and CAUTION * load.expected_seconds > remaining_seconds:
        return Refusal.WAIT
    return None


def describe(refusal: Refusal, tokens: int, load: Load) -> str:
    """Why a request of so many tokens, or more if not all are counted yet, was refused."""
    match refusal:
        case Refusal.TOO_LARGE:
            allowed = f"the server takes {load.limit_tokens} in one request (its --queue-tokens)"
            return f"{tokens} tokens together or more, {allowed}; send fewer or shorter ones at a time"
        case Refusal.DEADLINE:
            return f"the request takes {max(load.run_seconds, 0.001):.3f} s, the deadline is nearer"
        case Refusal.QUEUE_FULL:
            waiting = max(load.line_tokens, load.backlog_tokens)
            allowed = f"{load.limit_tokens} may wait (the server's --queue-tokens)"
            return f"the queue is full: {waiting} tokens wait, this request adds {tokens} or more, {allowed}"
    seconds = f"in about {load.expected_seconds:.3f} s, {load.wait_seconds:.3f} s of them in line"
    return f"an answer {seconds}, may outlast the deadline"
