"""Who is let in, and what the estimates behind it are."""

from __future__ import annotations

import pytest
from bertserve.batching.admission import CAUTION, Load, Neighbour, Refusal, Speed, estimate_rest, estimate_wait, refuse
from hypothesis import given
from hypothesis import strategies as st

REFUSALS = {
    "fits": (10, None, {}, None),
    "fits its deadline": (10, 1.51 * CAUTION, {"wait_seconds": 1.0, "run_seconds": 0.5}, None),
    "fits unless a moment is slower": (10, 1.49 * CAUTION, {"wait_seconds": 1.0, "run_seconds": 0.5}, Refusal.WAIT),
    "larger than the queue": (101, None, {}, Refusal.TOO_LARGE),
    "line full": (10, None, {"line_tokens": 91}, Refusal.QUEUE_FULL),
    "fits beside a large request": (10, None, {"line_tokens": 20, "backlog_tokens": 500}, None),
    "no room behind the line": (60, None, {"line_tokens": 20, "backlog_tokens": 61}, Refusal.QUEUE_FULL),
    "wait outlasts the caller": (10, 1.0, {"wait_seconds": 0.9, "run_seconds": 0.2}, Refusal.WAIT),
    "shares a batch that outlasts the caller": (10, 1.0, {"run_seconds": 0.1, "batch_seconds": 0.9}, Refusal.WAIT),
    "hopeless even alone": (10, 0.1, {"run_seconds": 0.2}, Refusal.DEADLINE),
}


@pytest.mark.parametrize(("tokens", "remaining", "load", "expected"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusal(tokens: int, remaining: float | None, load: dict[str, float], expected: Refusal | None) -> None:
    """Each reason to refuse, and the border beside it."""
    empty = {"line_tokens": 0, "backlog_tokens": 0, "wait_seconds": 0.0, "run_seconds": 0.0, "batch_seconds": 0.0}
    fields = {"limit_tokens": 100, "window_tokens": 20, **empty, **load}
    assert refuse(tokens, remaining, Load(**fields)) is expected  # type: ignore[arg-type]


def test_speed_follows_live_batches() -> None:
    """After many batches of another speed, the estimate is that speed."""
    speed = Speed(tokens=100, seconds=1)
    for _ in range(100):
        speed = speed.after(300, 1)
    assert speed.tokens_per_second == pytest.approx(300, rel=0.01)


def test_batch_under_way_takes_a_lane_for_what_is_left_of_it() -> None:
    """One that no lane has taken, one half-way, and one that takes longer than was expected."""
    rests = [estimate_rest(200, 100.0, started, now=10.0) for started in (None, 9.0, 5.0)]
    assert rests == [2.0, 1.0, 0.0]


def neighbour(waiting_seconds: float, batch_seconds: float = 1.0, *, is_next: bool = True) -> Neighbour:
    return Neighbour(waiting_seconds=waiting_seconds, batch_seconds=batch_seconds, is_next=is_next)


def test_wait_of_a_lone_bundle_is_its_line_over_all_lanes() -> None:
    assert estimate_wait(6.0, 4, [], lanes=2) == 3.0


@pytest.mark.parametrize(("is_next", "wait"), [(True, 4.0), (False, 3.0)])
def test_short_line_waits_for_one_batch_a_turn_of_another_bundles_long_one(is_next: bool, wait: float) -> None:
    """Whatever a batch of the other takes, and however little the own line holds."""
    assert estimate_wait(0.1, 4, [neighbour(60.0, 2.0, is_next=is_next)], lanes=2) == pytest.approx(wait + 0.05)


def test_large_request_waits_for_no_more_than_others_have() -> None:
    """They take turns only as long as they have work."""
    assert estimate_wait(0.0, 1000, [neighbour(3.0), neighbour(1.0)], lanes=2) == 2.0


@given(
    st.floats(0, 100),
    st.integers(1, 50),
    st.lists(st.builds(neighbour, st.floats(0.01, 100), st.floats(0.01, 10), is_next=st.booleans())),
    st.integers(1, 8),
)
def test_wait_lies_between_the_own_line_and_all_work(
    ahead: float, turns: int, neighbours: list[Neighbour], lanes: int
) -> None:
    wait = estimate_wait(ahead, turns, neighbours, lanes)
    assert ahead / lanes <= wait * 1.0001
    assert wait <= (ahead + sum(neighbour.waiting_seconds for neighbour in neighbours)) / lanes * 1.0001
