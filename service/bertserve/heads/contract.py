"""What a head states of itself: the rows it reads, its inputs and outputs in the graph, and what its outputs mean.

Code that packs, unpacks, proves or measures outputs loops over `registry.HEADS`. It knows no head by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from bertserve.bundle import Head, ModelFacts, ProblemType
from bertserve.engine.items import Float32s, Int64s, Item, ItemOutputs, Wanted
from bertserve.heads.comparison import Decision, Difference

# An item, and the row of the batch at which it starts.
Placed = tuple[Item, int]

# Takes the next rows of an output, by its name and their number. Items take theirs in the order of the batch.
Take = Callable[[str, int], Any]


class Rows(StrEnum):
    """The rows of the last layer that a head reads of every item that asks it.

    FIRST: the first row. MASKS: the rows of the item's masks. ALL: every row. SEGMENTS: every row, and the number of
    the item that it belongs to, for what is computed over a whole text.
    """

    FIRST = "first"
    MASKS = "masks"
    ALL = "all"
    SEGMENTS = "segments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the graph, int64 or float32.

    shape: numbers, words of `sizes_of`, and other words for what varies from batch to batch.
    """

    name: str
    shape: tuple[int | str, ...]
    ints: bool = False

    def sized(self, sizes: dict[str, int]) -> list[int | str]:
        """The shape with numbers for the words that have one."""
        return [sizes.get(size, size) if isinstance(size, str) else size for size in self.shape]


class HeadKind(Protocol):
    """A head, as the server and the export see it."""

    @property
    def head(self) -> Head:
        """Its name in the manifest."""

    @property
    def rows(self) -> Rows:
        """The rows that it reads."""

    @property
    def figure(self) -> str:
        """How the names of its figures begin in reports."""

    @property
    def agreement(self) -> str | None:
        """Name of the figure that says how often both decide alike; None where the head decides nothing."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Inputs of the graph that only this head reads, in the graph's order."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Outputs of the graph that this head gives, in the graph's order."""

    def is_asked(self, wanted: Wanted) -> bool:
        """Whether an item asks for the head's output."""

    def feed(self, asking: Sequence[Placed]) -> dict[str, Int64s]:
        """A value for every input. asking: items of a batch that ask, in its order; there may be none."""

    def fetch(self, asking: Sequence[Placed]) -> tuple[str, ...]:
        """Names of the outputs for the items of a batch that ask; there is at least one."""

    def unpack(self, item: Item, start: int, outputs: dict[str, Any], take: Take) -> dict[str, Any]:
        """Fields of ItemOutputs for an item that asks. start: its first row; outputs: the graph's, by name."""

    def comparable(self, outputs: ItemOutputs) -> dict[str, Float32s]:
        """An item's outputs by their names in golden.npz; empty where the item did not ask."""

    def expected(self, wanted: Wanted, reference: Any) -> dict[str, Float32s]:
        """PyTorch's outputs in the form of `comparable`. reference: as the head's file in the export makes it."""

    def differences(self, item: Item, actual: ItemOutputs, reference: Any) -> Iterator[Difference]:
        """How far the bundle's outputs are from PyTorch's."""

    def decisions(
        self, item: Item, actual: ItemOutputs, reference: Any, problem_type: ProblemType | None
    ) -> Iterator[Decision]:
        """Whether the bundle decides as PyTorch does."""

    def count_numbers(self, facts: ModelFacts, item: Item) -> int:
        """Numbers in the outputs of an item, before anything is pooled."""


class Sized(Protocol):
    """A model's sizes, as the manifest states them and as the export reads them."""

    @property
    def hidden_size(self) -> int:
        """Numbers in a row."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels; empty without a classifier."""


def sizes_of(model: Sized) -> dict[str, int]:
    """The words in which ports write the sizes of a model."""
    return {"hidden": model.hidden_size, "labels": len(model.labels)}
