"""The highest rate that meets a bound: which rate to try next, from the trials so far. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A run at a rate, and whether it met the bound."""

    rate: float
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """start: first rate. precision: the answer and the lowest rate that failed differ by no more than this share.

    confirmations: how often the answer must be met again. give_up: a share of `start` below which nothing is tried.
    """

    start: float
    precision: float = 0.05
    confirmations: int = 2
    give_up: float = 1 / 256


def next_rate(search: Search, trials: Sequence[Trial]) -> float | None:
    """The rate to try next; None once the search is over.

    Doubles until a trial fails, halves until one is met, then bisects between the two by ratio. A rate that is met once
    and fails when confirmed counts as failed, and the search goes on below it.
    """
    if not trials:
        return search.start
    met, failed = highest_met(trials), lowest_failed(trials)
    if met is None:
        lower = failed / 2
        return lower if lower >= search.start * search.give_up else None
    if failed == math.inf:
        return met * 2
    if failed / met > 1 + search.precision:
        return math.sqrt(met * failed)
    times = sum(trial.rate == met for trial in trials)
    return met if times <= search.confirmations else None


def highest_met(trials: Sequence[Trial]) -> float | None:
    """The highest rate below every failed one that was met; None where there is none."""
    failed = lowest_failed(trials)
    return max((trial.rate for trial in trials if trial.met and trial.rate < failed), default=None)


def lowest_failed(trials: Sequence[Trial]) -> float:
    """The lowest rate at which a trial failed; infinity where none did."""
    return min((trial.rate for trial in trials if not trial.met), default=math.inf)
