"""The few inputs whose outputs travel with a bundle, so that a server can prove that it computes the same."""

from __future__ import annotations

from dataclasses import replace

from bertserve.engine.contract import Engine
from bertserve.engine.golden import GoldenCase, comparable_outputs
from bertserve.engine.items import Float32s, Item, Wanted
from bertserve.engine.ort.run_memory import LONG_TEXT_TOKENS
from bertserve.heads.registry import HEADS

from bertexport.heads.registry import EXPORTED_HEADS
from bertexport.proof.reference import Expected, Reference, ReferenceOutputs

CASES = 4
# Short, for they are shipped with every bundle and run at every start.
LONGEST_TOKENS = 64


def choose_golden(items: list[Item]) -> list[Item]:
    """Inputs from short to long that between them ask every head, for the first and the last layer.

    A graph with a way for long texts is proved on it by the last layer of one more input.
    """
    short = [item for item in items if item.length <= LONGEST_TOKENS] or [min(items, key=lambda item: item.length)]
    # Items that ask the most outputs come first; the others only where there are too few of these.
    asking = max(_asked(item) for item in short)
    richest = sorted((item for item in short if _asked(item) == asking), key=lambda item: item.length)
    places = sorted({round(index * (len(richest) - 1) / (CASES - 1)) for index in range(CASES)})
    long = [item for item in items if item.length > LONG_TEXT_TOKENS]
    last_layers = [replace(item, wanted=Wanted(layers=item.wanted.layers[-1:])) for item in long[:1]]
    return [*(_narrow(richest[place]) for place in places), *last_layers]


def expect_golden(reference: Reference, items: list[Item]) -> list[Expected]:
    """What PyTorch gives; an item then asks what PyTorch's own results make worth comparing."""
    expected = ((item, reference.run(item)) for item in items)
    return [Expected(_aim(item, outputs), outputs) for item, outputs in expected]


def make_cases(engine: Engine, expected: list[Expected]) -> list[GoldenCase]:
    """Run the bundle, too."""
    results = engine.run_items([one.item for one in expected])
    return [
        GoldenCase(item=one.item, reference=_reference_outputs(one), own=comparable_outputs(actual))
        for one, actual in zip(expected, results, strict=True)
    ]


def _asked(item: Item) -> int:
    return sum(head.is_asked(item.wanted) for head in HEADS.values())


def _narrow(item: Item) -> Item:
    wanted = item.wanted
    for head in EXPORTED_HEADS.values():
        wanted = head.narrow(wanted)
    return replace(item, wanted=wanted)


def _aim(item: Item, outputs: ReferenceOutputs) -> Item:
    wanted = item.wanted
    for head, reference in outputs.results.items():
        wanted = EXPORTED_HEADS[head].aim(wanted, reference)
    return replace(item, wanted=wanted)


def _reference_outputs(expected: Expected) -> dict[str, Float32s]:
    """PyTorch's outputs in the form of the bundle's."""
    named: dict[str, Float32s] = {}
    for head, kind in HEADS.items():
        if head in expected.outputs.results:
            named |= kind.expected(expected.item.wanted, expected.outputs.results[head])
    return named
