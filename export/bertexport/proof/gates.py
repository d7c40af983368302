"""Gates: bounds that a bundle's figures must keep. Which bounds a bundle has is a matter of its precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bertserve.bundle import Head
from bertserve.heads.registry import HEADS


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A bound that a figure must keep. head: whose outputs the figure is about; asked of a bundle that has it."""

    head: Head
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def passes(self, value: float) -> bool:
        """NaN never passes."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    @property
    def bounds(self) -> tuple[float, ...]:
        return tuple(bound for bound in (self.at_least, self.at_most) if bound is not None)


# In place of the agreement that a number, being no decision, does not have.
REGRESSION_GATE = Gate(head=Head.SEQUENCE_CLASSIFICATION, figure="classification_max_relative_difference", at_most=0.05)


def gate_distances(at_most: float) -> Iterator[Gate]:
    """A gate for every head: its largest relative difference."""
    for head, kind in HEADS.items():
        yield Gate(head=head, figure=f"{kind.figure}_max_relative_difference", at_most=at_most)


def gate_decisions(at_least: float, others: Mapping[Head, float]) -> Iterator[Gate]:
    """A gate for every head that decides: its agreement. others: bounds of heads that have another one."""
    for head, kind in HEADS.items():
        if kind.agreement is not None:
            yield Gate(head=head, figure=kind.agreement, at_least=others.get(head, at_least))
