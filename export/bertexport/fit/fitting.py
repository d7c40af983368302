"""Finds an int8 graph that passes its gates: all parts in int8 where that does, else all but the costliest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from bertexport.errors import ExportError
from bertexport.fit.quantization import Int8Plan
from bertexport.proof.verification import Verdict


class Judged(Protocol):
    """A graph that was built and measured."""

    @property
    def verdict(self) -> Verdict: ...


Trial = TypeVar("Trial", bound=Judged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit(Generic[Trial]):
    """trial: the one that passed, and the last that was built. kept: the parts in fp32 with what each alone costs in
    int8, the costliest first. failures: what was missed with all parts in int8."""

    trial: Trial
    kept: Mapping[str, float]
    failures: tuple[str, ...]


def fit_int8(plan: Int8Plan, build: Callable[[Int8Plan], Trial], rank: Callable[[], Mapping[str, float]]) -> Fit[Trial]:
    """Keep as few parts in fp32 as the gates allow, the costliest first.

    build: write and measure the graph of a plan. rank: part → cost, descending; asked only if there is a need.
    Raises ExportError where nothing passes but fp32 throughout.
    """
    trial = build(plan)
    if not trial.verdict.failures:
        return Fit(trial=trial, kept={}, failures=())
    failures, costs, built = trial.verdict.failures, rank(), 0

    def passes(count: int) -> bool:
        """Whether the gates hold if the `count` costliest parts are kept."""
        nonlocal trial, built
        trial, built = build(replace(plan, kept=frozenset(list(costs)[:count]))), count
        return not trial.verdict.failures

    smallest = bisect_smallest(passes, 1, len(costs) - 1)
    if smallest is None:
        raise ExportError(
            f"int8 does not suit this checkpoint: with all of it in int8 {'; '.join(failures)}; and with all but "
            f"one part in fp32 {'; '.join(trial.verdict.failures)}; export it with --precision fp32, "
            "or let --allow-accuracy-loss write and mark it in int8"
        )
    # The trial that is returned must be the last that was built: each one overwrites the files of the one before.
    if built != smallest:
        passes(smallest)
    return Fit(trial=trial, kept=dict(list(costs.items())[:smallest]), failures=failures)


def bisect_smallest(passes: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest number from `low` to `high` that passes, if all above it pass too; None if `high` fails.

    Small numbers are tried first, in steps that double.
    """
    failing, passing, step = low - 1, low, 1
    while not passes(passing):
        if passing >= high:
            return None
        failing, passing, step = passing, min(passing + step, high), 2 * step
    while passing - failing > 1:
        middle = (failing + passing) // 2
        failing, passing = (failing, middle) if passes(middle) else (middle, passing)
    return passing
