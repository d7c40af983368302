"""What repeated rounds say: medians, spreads, and ratios of figures that were taken side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Rounds:
    """A figure, once a round, in the order of the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """(max − min) ÷ 2 ÷ median: half the width of what was seen."""
        return (max(self.values) - min(self.values)) / 2 / self.median

    def over(self, other: Rounds) -> Rounds:
        """This figure ÷ another of the same rounds, round by round, so that what slows a whole round cancels out."""
        return Rounds(tuple(own / base for own, base in zip(self.values, other.values, strict=True)))


def median_of_medians(figures: Iterable[Rounds]) -> float:
    """The median over several figures, each represented by its own."""
    return median(figure.median for figure in figures)
