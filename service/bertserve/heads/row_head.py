"""The form that most heads have: some rows of every text go in, one float32 output comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bertserve.bundle import Head, ModelFacts, ProblemType
from bertserve.engine.items import Float32s, Int64s, Item, ItemOutputs, Wanted
from bertserve.heads.comparison import Decision, Difference, measure_difference
from bertserve.heads.contract import Placed, Port, Rows, Take, sizes_of
from bertserve.heads.layout import firsts_input, lay_out, rows_input, texts_input

Decide = Callable[[str, Item, Float32s, Float32s, ProblemType | None], Iterator[Decision]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowHead:
    """A head that reads FIRST, ALL or SEGMENTS, and gives a row of numbers for each row or text.

    ask: the field of Wanted. name: how its inputs in the graph begin. output: the output's name in the graph, in
    golden.npz and in ItemOutputs. size: of the output's rows. decide: the decisions that follow from the output.
    """

    head: Head
    rows: Rows
    figure: str
    ask: str
    name: str
    output: str
    size: int | str
    decide: Decide | None = None

    @property
    def agreement(self) -> str | None:
        return f"{self.figure}_agreement" if self.decide is not None else None

    @property
    def inputs(self) -> tuple[Port, ...]:
        rows, texts, firsts = rows_input(self.name), texts_input(self.name), firsts_input(self.name)
        listed = Port(name=rows, shape=(rows,), ints=True)
        if self.rows is not Rows.SEGMENTS:
            return (listed,)
        return (listed, Port(name=texts, shape=(rows,), ints=True), Port(name=firsts, shape=(firsts,), ints=True))

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(name=self.output, shape=(f"{self.output}_count", self.size)),)

    def is_asked(self, wanted: Wanted) -> bool:
        return bool(getattr(wanted, self.ask))

    def feed(self, asking: Sequence[Placed]) -> dict[str, Int64s]:
        return lay_out(self.rows, self.name, asking)

    def fetch(self, asking: Sequence[Placed]) -> tuple[str, ...]:  # noqa: ARG002
        return (self.output,)

    def unpack(self, item: Item, start: int, outputs: dict[str, Any], take: Take) -> dict[str, Any]:  # noqa: ARG002
        taken = take(self.output, item.length) if self.rows is Rows.ALL else take(self.output, 1)[0]
        return {self.output: taken}

    def comparable(self, outputs: ItemOutputs) -> dict[str, Float32s]:
        values: Float32s | None = getattr(outputs, self.output)
        return {} if values is None else {self.output: values}

    def expected(self, wanted: Wanted, reference: Float32s) -> dict[str, Float32s]:
        return {self.output: reference} if self.is_asked(wanted) else {}

    def differences(self, item: Item, actual: ItemOutputs, reference: Float32s) -> Iterator[Difference]:
        for values in self.comparable(actual).values():
            yield measure_difference(self.figure, item, values, reference)

    def decisions(
        self, item: Item, actual: ItemOutputs, reference: Float32s, problem_type: ProblemType | None
    ) -> Iterator[Decision]:
        if self.decide is None:
            return
        for values in self.comparable(actual).values():
            yield from self.decide(self.figure, item, values, reference, problem_type)

    def count_numbers(self, facts: ModelFacts, item: Item) -> int:
        if not self.is_asked(item.wanted):
            return 0
        size = sizes_of(facts)[self.size] if isinstance(self.size, str) else self.size
        return size * (item.length if self.rows is Rows.ALL else 1)
