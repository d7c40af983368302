"""The few inputs whose outputs travel with a bundle, so that a server can prove that it computes the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from bertserve.engine.contract import Engine
from bertserve.engine.golden import GoldenCase, comparable_outputs
from bertserve.engine.items import Float32s, Item, ItemOutputs, Wanted
from bertserve.engine.ort.run_memory import LONG_TEXT_TOKENS

from bertexport.proof.reference import Expected, Reference, ReferenceOutputs

CASES = 4
# Short, for they are shipped with every bundle and run at every start.
LONGEST_TOKENS = 64
TARGETS = 5


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
    """What PyTorch gives; the targets of an item become PyTorch's likeliest words at its first mask."""
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
    wanted = item.wanted
    return sum(map(bool, (wanted.mask_positions, wanted.next_sentence, wanted.pooler, wanted.classify, wanted.tag)))


def _narrow(item: Item) -> Item:
    wanted = item.wanted
    return replace(item, wanted=replace(wanted, layers=(wanted.layers[0], wanted.layers[-1])))


def _aim(item: Item, outputs: ReferenceOutputs) -> Item:
    if outputs.mask_log_probabilities is None or not item.wanted.mask_positions:
        return item
    likeliest = np.argsort(-outputs.mask_log_probabilities[0], kind="stable")[:TARGETS]
    return replace(item, wanted=replace(item.wanted, top_k=len(likeliest), target_ids=tuple(likeliest.tolist())))


def _reference_outputs(expected: Expected) -> dict[str, Float32s]:
    """PyTorch's outputs in the form of the bundle's."""
    wanted, outputs = expected.item.wanted, expected.outputs
    log_probabilities = outputs.mask_log_probabilities
    masked = log_probabilities is not None and bool(wanted.mask_positions)
    best = -np.sort(-log_probabilities, axis=1)[:, : wanted.top_k] if log_probabilities is not None and masked else None
    return comparable_outputs(
        ItemOutputs(
            layers={layer: outputs.layers[layer] for layer in wanted.layers},
            pooled=outputs.pooled if wanted.pooler else None,
            mask_top_log_probabilities=best,
            target_log_probabilities=log_probabilities[:, list(wanted.target_ids)]
            if log_probabilities is not None and masked
            else None,
            next_sentence_logits=outputs.next_sentence_logits if wanted.next_sentence else None,
            class_logits=outputs.class_logits if wanted.classify else None,
            tag_logits=outputs.tag_logits if wanted.tag else None,
        )
    )
