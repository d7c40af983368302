"""Hidden states: every layer's rows, 0 = embedding layer. All bundles have this head.

The encoder makes the outputs of the graph, one a layer: `hidden_0` … `hidden_L` [T, hidden], where T is the number of
tokens in the batch. So this head adds no nodes to the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bertserve.bundle import Head, ModelFacts, ProblemType
from bertserve.engine.items import Float32s, Int64s, Item, ItemOutputs, Wanted
from bertserve.heads.comparison import Decision, Difference, measure_difference
from bertserve.heads.contract import Placed, Port, Rows, Take
from bertserve.heads.layout import int64s


def hidden_output(layer: int) -> str:
    """Name of the graph's output for a layer, 0 = embedding layer."""
    return f"hidden_{layer}"


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """The head itself. Its reference: float32 [length, hidden] for every layer, embedding layer first."""

    head: Head = Head.EMBEDDING
    rows: Rows = Rows.ALL
    figure: str = "hidden"
    agreement: str | None = None
    #: Layers that any item wants, ascending. Only graphs for long texts have it.
    inputs: tuple[Port, ...] = (Port(name="wanted_layers", shape=("wanted",), ints=True),)
    outputs: tuple[Port, ...] = ()

    def is_asked(self, wanted: Wanted) -> bool:
        return bool(wanted.layers)

    def feed(self, asking: Sequence[Placed]) -> dict[str, Int64s]:
        return {"wanted_layers": int64s(_wanted_layers(asking))}

    def fetch(self, asking: Sequence[Placed]) -> tuple[str, ...]:
        return tuple(hidden_output(layer) for layer in _wanted_layers(asking))

    def unpack(self, item: Item, start: int, outputs: dict[str, Any], take: Take) -> dict[str, Any]:  # noqa: ARG002
        rows = slice(start, start + item.length)
        return {"layers": {layer: outputs[hidden_output(layer)][rows] for layer in item.wanted.layers}}

    def comparable(self, outputs: ItemOutputs) -> dict[str, Float32s]:
        return {f"layer_{layer}": values for layer, values in outputs.layers.items()}

    def expected(self, wanted: Wanted, reference: Sequence[Float32s]) -> dict[str, Float32s]:
        return {f"layer_{layer}": reference[layer] for layer in wanted.layers}

    def differences(self, item: Item, actual: ItemOutputs, reference: Sequence[Float32s]) -> Iterator[Difference]:
        for layer, states in actual.layers.items():
            yield measure_difference(self.figure, item, states, reference[layer], layer)

    def decisions(
        self,
        item: Item,  # noqa: ARG002
        actual: ItemOutputs,  # noqa: ARG002
        reference: Sequence[Float32s],  # noqa: ARG002
        problem_type: ProblemType | None,  # noqa: ARG002
    ) -> Iterator[Decision]:
        return iter(())

    def count_numbers(self, facts: ModelFacts, item: Item) -> int:
        return len(item.wanted.layers) * item.length * facts.hidden_size


def _wanted_layers(asking: Sequence[Placed]) -> list[int]:
    return sorted({layer for item, _ in asking for layer in item.wanted.layers})


EMBEDDING = HiddenStates()
