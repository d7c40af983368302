"""Who is let in, and what the estimates behind it are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from bertserve.batching.admission import (
    CAUTION,
    Load,
    Queued,
    Refusal,
    Running,
    Speed,
    Work,
    estimate_wait,
    refuse,
    weigh,
)
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


def queued(seconds: float = 0.0, *, behind: float = 0.0, next_tokens: int = 1, last_batch: int = 0) -> Queued:
    """A bundle of 100 tokens a second. seconds, behind: lane time of what waits in line and behind it."""
    return Queued(
        line_tokens=round(100 * seconds),
        backlog_tokens=round(100 * behind),
        stream_backlog_tokens=0,
        next_tokens=next_tokens,
        tokens_per_second=100.0,
        last_batch=last_batch,
    )


def work(own: Queued, *others: Queued, running: Sequence[Running] = (), lanes: int = 2) -> Work:
    """Batches of 100 tokens take a second."""
    return Work(own=own, others=others, running=running, lanes=lanes, batch_tokens=100, now=10.0)


def test_wait_of_a_lone_bundle_is_its_line_over_all_lanes() -> None:
    assert estimate_wait(10, work(queued(6.0))) == 3.0


def test_what_is_behind_the_line_counts_as_far_as_the_request_goes_round() -> None:
    """A request of one window passes it by, one of two lets it come once, and nobody waits for more than there is."""
    assert [estimate_wait(tokens, work(queued(2.0, behind=3.0), lanes=1)) for tokens in (100, 200, 900)] == [2, 4, 5]


@pytest.mark.parametrize(("last_batch", "wait"), [(0, 4.0), (1, 3.0)], ids=["its turn is next", "it had its turn"])
def test_short_line_waits_for_one_batch_a_turn_of_another_bundles_long_one(last_batch: int, wait: float) -> None:
    """However little the own line holds."""
    other = queued(60.0, last_batch=last_batch)
    assert estimate_wait(390, work(queued(0.1), other, lanes=1)) == pytest.approx(wait + 0.1)


def test_a_longer_item_of_another_bundle_is_a_batch_of_its_own() -> None:
    assert estimate_wait(1, work(queued(), queued(60.0, next_tokens=500), lanes=1)) == 5.0


def test_large_request_waits_for_no_more_than_others_have() -> None:
    """They take turns only as long as they have work."""
    assert estimate_wait(100_000, work(queued(), queued(2.0, behind=1.0), queued(1.0))) == 2.0


def test_batch_under_way_takes_a_lane_for_what_is_left_of_it() -> None:
    """One that no lane has taken, one half-way, and one that takes longer than was expected."""
    running = [Running(tokens=200, tokens_per_second=100.0, started=started) for started in (None, 9.0, 5.0)]
    assert estimate_wait(1, work(queued(), running=running, lanes=1)) == 2.0 + 1.0 + 0.0


def test_batches_under_way_hold_nobody_up_while_a_lane_is_free() -> None:
    running = [Running(tokens=200, tokens_per_second=100.0, started=10.0)]
    assert [estimate_wait(1, work(queued(), running=running, lanes=lanes)) for lanes in (1, 2)] == [2.0, 0.0]


QUEUED = st.builds(
    queued,
    st.floats(0.01, 100),
    behind=st.floats(0, 100),
    next_tokens=st.integers(1, 1000),
    last_batch=st.integers(0, 9),
)


@given(st.integers(1, 5000), QUEUED, st.lists(QUEUED, max_size=5), st.integers(1, 8))
def test_wait_lies_between_the_own_line_and_all_work(
    tokens: int, own: Queued, others: list[Queued], lanes: int
) -> None:
    wait = estimate_wait(tokens, work(own, *others, lanes=lanes))
    assert own.line_tokens / 100 / lanes <= wait * 1.0001
    assert wait <= sum(bundle.tokens for bundle in (own, *others)) / 100 / lanes * 1.0001


@given(st.integers(1, 500), st.integers(1, 500), QUEUED, st.integers(1, 8))
def test_a_request_finds_its_bundles_queue_and_its_own_time(tokens: int, longest: int, own: Queued, lanes: int) -> None:
    """All lanes share its items, one lane runs the longest, and its last item shares a batch with what is in line."""
    load = weigh(tokens, longest, 1000, work(own, lanes=lanes))
    assert (load.line_tokens, load.backlog_tokens) == (own.line_tokens, own.backlog_tokens)
    assert (load.limit_tokens, load.window_tokens) == (1000, 100)
    assert load.wait_seconds == estimate_wait(tokens, work(own, lanes=lanes))
    assert load.run_seconds == max(longest, tokens / lanes) / 100
    assert load.batch_seconds == min(100, own.line_tokens + tokens) / 100
