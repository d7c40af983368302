"""Which lanes are lost, and when to give up: pure, synchronous functions. No clock, thread or loop inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A run may take so many times as long as its tokens should, and the stall bound on top.
PATIENCE = 10.0

# So many losses within that time, and a new thread does not help.
MOST_LOSSES = 3
LOSS_WINDOW_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """A lane as it is seen. step: number of what it does, None where it is idle. expected_seconds: of that step."""

    is_alive: bool
    step: int | None
    expected_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A step that has been seen at work for so many seconds."""

    step: int
    seconds: float


def watch(
    watched: Mapping[int, Watched], lanes: Sequence[LaneState], elapsed_seconds: float, tick_seconds: float
) -> dict[int, Watched]:
    """By lane, how long its step has been at work, one look later.

    Time counts only as far as the watch itself was awake to see it: a process that was stopped, or starved of its CPU
    quota, has no stalled lanes for that.
    """
    seen_seconds = min(elapsed_seconds, 2 * tick_seconds)
    after = {}
    for number, lane in enumerate(lanes):
        if lane.step is None:
            continue
        before = watched.get(number)
        seconds = before.seconds + seen_seconds if before is not None and before.step == lane.step else 0.0
        after[number] = Watched(step=lane.step, seconds=seconds)
    return after


def find_lost(watched: Mapping[int, Watched], lanes: Sequence[LaneState], stall_seconds: float) -> dict[int, str]:
    """Numbers of the lanes that are dead or stalled, and which of the two."""
    lost = {}
    for number, lane in enumerate(lanes):
        if not lane.is_alive:
            lost[number] = "died"
        elif number in watched and watched[number].seconds > stall_seconds + PATIENCE * lane.expected_seconds:
            lost[number] = "stalled"
    return lost


def is_hopeless(losses: Sequence[float], now: float) -> bool:
    """Whether lanes were lost so often lately that replacing them does not help. losses: when, by a monotonic clock."""
    return sum(now - moment < LOSS_WINDOW_SECONDS for moment in losses) >= MOST_LOSSES
