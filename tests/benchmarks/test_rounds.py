"""Medians, spreads, ratios; what others took."""

from __future__ import annotations

import pytest
from bertbench.neighbours import CoreTimes, read_core_times, share_of_others
from bertbench.rounds import Rounds, median_of_medians

pytestmark = pytest.mark.export


def test_median_and_spread() -> None:
    """The spread is half the width of what was seen, over the median."""
    rounds = Rounds((100.0, 90.0, 120.0))
    assert rounds.median == 100.0
    assert rounds.spread == pytest.approx(0.15)


def test_a_slow_round_does_not_move_a_ratio() -> None:
    """Both were slowed by half in the second round."""
    assert Rounds((200.0, 100.0, 200.0)).over(Rounds((100.0, 50.0, 100.0))).values == (2.0, 2.0, 2.0)


def test_median_of_medians() -> None:
    assert median_of_medians([Rounds((1.0,)), Rounds((2.0, 4.0)), Rounds((9.0,))]) == 3.0


def test_what_others_took_is_what_was_busy_for_nobody_here() -> None:
    """Two cores for ten seconds, busy for fifteen, of which twelve were ours."""
    before = CoreTimes(total=100.0, busy=50.0, own=1.0)
    after = CoreTimes(total=120.0, busy=65.0, own=13.0)
    assert share_of_others(before, after) == pytest.approx(0.15)


def test_nobody_is_blamed_where_nothing_is_known(tmp_path) -> None:
    """A system without /proc/stat."""
    unknown = read_core_times(tmp_path / "stat")
    assert share_of_others(unknown, unknown) == 0.0
