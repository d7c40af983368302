"""The values that a measurement leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bertbench.graph.lanes import Arrangement
from bertbench.graph.runners import Kind, Task
from bertbench.graph.shapes import Shape
from bertbench.machine import Machine
from bertbench.rounds import Rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """batch_tokens: budget of a batch. seconds: about so long each contestant runs on each shape in each round."""

    batch_tokens: int
    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """tokens/s of one contestant on one shape, round by round."""

    contestant: str
    kind: Kind
    precision: str
    shape: Shape
    arrangement: Arrangement
    task: Task = Task.EMBEDDING
    rates: Rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """arranged: every arrangement, on sentences. shaped: every shape, each contestant in its best arrangement.

    tasks: the same sentences, a task at a time. others: share of the cores that other processes took meanwhile.
    """

    started: str
    machine: Machine
    settings: Settings
    arranged: tuple[Figure, ...]
    shaped: tuple[Figure, ...]
    tasks: tuple[Figure, ...]
    others: float
    notes: tuple[str, ...]


def best_arrangement(figures: Iterable[Figure], contestant: str) -> Arrangement:
    """The one with the highest median."""
    return max((one for one in figures if one.contestant == contestant), key=lambda one: one.rates.median).arrangement
