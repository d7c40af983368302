"""A bundle's outputs beside PyTorch's, one input at a time: how far they lie apart, and whether they decide alike.

Pure arithmetic on arrays; knows neither heads nor thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertserve.engine.items import Float32s, Item

OVERLAP_RANKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One output of one input. relative: `relative_difference`. Of hidden states only: layer, token_cosines,
    pooled_cosine."""

    output: str
    item: Item
    max_abs: float
    relative: float
    layer: int | None = None
    token_cosines: NDArray[np.float64] | None = None
    pooled_cosine: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether both choose the same: a mask's word, a pair's verdict, the label of a text or token.

    margin: between PyTorch's best and second best, in logits. overlap: the share of PyTorch's best five that the bundle
    has among its own, where outputs are rankings.
    """

    output: str
    item: Item
    margin: float
    agrees: bool
    overlap: float | None = None


def relative_difference(actual: Float32s, expected: Float32s) -> float:
    """max |Δ| ÷ max(1, max |expected|); infinite where the shapes differ, NaN where a value is."""
    if actual.shape != expected.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    return float(np.abs(actual - expected).max() / max(1.0, float(np.abs(expected).max())))


def measure_difference(
    output: str, item: Item, actual: Float32s, expected: Float32s, layer: int | None = None
) -> Difference:
    """layer: of hidden states, whose vectors are compared by their directions too."""
    is_hidden = layer is not None
    return Difference(
        output=output,
        item=item,
        max_abs=float(np.abs(actual - expected).max()) if actual.shape == expected.shape else float("inf"),
        relative=relative_difference(actual, expected),
        layer=layer,
        token_cosines=_cosines(actual, expected) if is_hidden else None,
        pooled_cosine=float(_cosines(actual.mean(0)[None], expected.mean(0)[None])[0]) if is_hidden else None,
    )


def decide_best(output: str, item: Item, logits: Float32s, reference: Float32s) -> Iterator[Decision]:
    """The choice of one label. logits, reference: [labels]. Where there is but one label, both choose it."""
    agrees = bool(np.argmax(logits) == np.argmax(reference))
    yield Decision(output=output, item=item, margin=find_margin(reference), agrees=agrees)


def decide_each(output: str, item: Item, logits: Float32s, reference: Float32s) -> Iterator[Decision]:
    """Whether each label holds, which is where its logit is above zero. logits, reference: [labels]."""
    for logit, expected in zip(logits, reference, strict=True):
        agrees = bool((logit > 0) == (expected > 0))
        yield Decision(output=output, item=item, margin=float(abs(expected)), agrees=agrees)


def decide_ranking(output: str, item: Item, top_ids: NDArray[np.int64], reference: Float32s) -> Decision:
    """The likeliest of many. top_ids: [k], best first; reference: a value for every id."""
    ranks = min(OVERLAP_RANKS, len(top_ids))
    best = np.argsort(-reference, kind="stable")[:ranks]
    return Decision(
        output=output,
        item=item,
        margin=find_margin(reference),
        agrees=bool(top_ids[0] == best[0]),
        overlap=len(set(top_ids[:ranks].tolist()) & set(best.tolist())) / ranks,
    )


def find_margin(values: Float32s) -> float:
    """Between the best and the second best; infinite where the best is the only one."""
    if len(values) == 1:
        return float("inf")
    second, first = np.partition(values, -2)[-2:]
    return float(first - second)


def _cosines(actual: Float32s, expected: Float32s) -> NDArray[np.float64]:
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny))
