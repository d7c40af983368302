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
    failures, costs = trial.verdict.failures, rank()

    def build_without(count: int) -> Trial:
        return build(replace(plan, kept=frozenset(list(costs)[:count])))

    failing, passing, built = 0, 1, 1
    while (trial := build_without(passing)).verdict.failures:
        if passing >= len(costs) - 1:
            raise ExportError(
                f"int8 does not suit this checkpoint: with all of it in int8 {'; '.join(failures)}; and with all but "
                f"one part in fp32 {'; '.join(trial.verdict.failures)}; export it with --precision fp32, "
                "or let --allow-accuracy-loss write and mark it in int8"
            )
        failing, passing = passing, min(2 * passing, len(costs) - 1)
        built = passing
    while passing - failing > 1:
        built = (failing + passing) // 2
        trial = build_without(built)
        failing, passing = (built, passing) if trial.verdict.failures else (failing, built)
    if built != passing:
        trial = build_without(passing)
    return Fit(trial=trial, kept=dict(list(costs.items())[:passing]), failures=failures)
