"""Who is let in: pure, synchronous functions of the load and the measured speed. No clock, thread or loop inside.

    wait  = (what runs before the request's last item + what is left of the batches on their way) ÷ lanes
    let in if CAUTION × (wait + max(the request's own time, the batch that its last item shares)) ≤ time left

All terms are in lane time: tokens ÷ the speed of one lane. `estimate_wait` and `weigh` compute them, `refuse` decides.
The values are named tuples, because several are made for every request, and a frozen dataclass takes twice as
long to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

# If callers wait as long as they can, each request that is let in would end just at its deadline, and a slower moment
# would fail them all. A quarter of their time is kept free for such moments; the rest keeps lanes busy enough.
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


class Queued(NamedTuple):
    """What waits of one bundle. line_tokens: in line. backlog_tokens, stream_backlog_tokens: behind it.

    next_tokens: of the first item in line. last_batch: number of its last batch, -1 before the first.
    """

    line_tokens: int
    backlog_tokens: int
    stream_backlog_tokens: int
    next_tokens: int
    tokens_per_second: float
    last_batch: int

    @property
    def tokens(self) -> int:
        return self.line_tokens + self.backlog_tokens + self.stream_backlog_tokens


class Running(NamedTuple):
    """A batch on its way. started: when a lane took it; None if no lane has yet."""

    tokens: int
    tokens_per_second: float
    started: float | None


class Work(NamedTuple):
    """All that the lanes have to do. own: of the bundle that is asked about; others: of those that have a line, too.

    batch_tokens: budget of a batch, and of what one request may have in line. now: by the clock of `started`.
    """

    own: Queued
    others: Sequence[Queued]
    running: Sequence[Running]
    lanes: int
    batch_tokens: int
    now: float


def estimate_wait(tokens: int, work: Work) -> float:
    """Seconds until the last item of a request of so many tokens would start."""
    own, budget = work.own, work.batch_tokens
    # Every round through the line gives each request a budget's worth.
    ahead = min(-(-tokens // budget) * own.line_tokens, own.tokens)
    batches = -(-(ahead + tokens) // budget)
    lane_seconds = ahead / own.tokens_per_second
    for other in work.others:
        lane_seconds += _estimate_turns(other, batches if other.last_batch <= own.last_batch else batches - 1, budget)
    # The batches on their way count only if they keep every lane busy.
    if len(work.running) >= work.lanes:
        lane_seconds += sum(_estimate_rest(batch, work.now) for batch in work.running)
    return lane_seconds / work.lanes


def _estimate_turns(other: Queued, turns: int, batch_tokens: int) -> float:
    """Lane time of another bundle's next batches. It takes turns only as long as it has work."""
    batch = max(batch_tokens, other.next_tokens)  # one longer item runs alone
    return min(other.tokens, turns * batch) / other.tokens_per_second


def _estimate_rest(batch: Running, now: float) -> float:
    """Lane time that is left of a batch."""
    return max(0.0, batch.tokens / batch.tokens_per_second - (0.0 if batch.started is None else now - batch.started))


class Refusal(StrEnum):
    """Why a request is not let in."""

    TOO_LARGE = "too_large"
    QUEUE_FULL = "queue_full"
    WAIT = "wait"
    DEADLINE = "deadline"


class Load(NamedTuple):
    """What a request would find. line_tokens, backlog_tokens: what waits of its bundle, in line and behind it, each
    bounded by limit_tokens. The backlog of streams is not counted: each stream is bounded by itself.

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


def weigh(tokens: int, longest_tokens: int, limit_tokens: int, work: Work) -> Load:
    """What a request of so many tokens would find, whose longest item has longest_tokens."""
    own = work.own
    return Load(
        line_tokens=own.line_tokens,
        backlog_tokens=own.backlog_tokens,
        limit_tokens=limit_tokens,
        window_tokens=work.batch_tokens,
        wait_seconds=estimate_wait(tokens, work),
        run_seconds=max(longest_tokens, tokens / work.lanes) / own.tokens_per_second,
        batch_seconds=min(work.batch_tokens, own.line_tokens + tokens) / own.tokens_per_second,
    )


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
