"""A bundle's outputs beside PyTorch's, one input at a time: how far they lie apart, and whether they decide alike.

Pure arithmetic on arrays; knows neither models nor thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from bertserve.bundle import ProblemType
from bertserve.engine.items import Float32s, Item, ItemOutputs
from bertserve.heads.comparison import relative_difference
from numpy.typing import NDArray

from bertexport.proof.reference import ReferenceOutputs

# Between PyTorch's best and second best, in logits: below it, either may rightly win.
DECISIVE_MARGIN = 0.1
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
    """Whether both choose the same: a mask's word, a pair's verdict, the label of a text or token. overlap: of the best
    five."""

    output: str
    item: Item
    margin: float
    agrees: bool
    overlap: float = 1.0


def compare_hidden(item: Item, actual: ItemOutputs, expected: ReferenceOutputs) -> Iterator[Difference]:
    """Every layer's hidden states, and the pooler's output."""
    for layer, states in actual.layers.items():
        yield _difference("hidden", item, states, expected.layers[layer], layer)
    if actual.pooled is not None and expected.pooled is not None:
        yield _difference("pooler", item, actual.pooled, expected.pooled)


def compare_heads(item: Item, actual: ItemOutputs, expected: ReferenceOutputs) -> Iterator[Difference]:
    """Log-probabilities of the likeliest tokens and of the targets, and logits."""
    if expected.mask_log_probabilities is not None and item.wanted.mask_positions:
        log_probabilities = expected.mask_log_probabilities
        if actual.mask_top_ids is not None and actual.mask_top_log_probabilities is not None:
            likeliest = np.take_along_axis(log_probabilities, actual.mask_top_ids, axis=1)
            yield _difference("masked_lm", item, actual.mask_top_log_probabilities, likeliest)
        if actual.target_log_probabilities is not None:
            targets = log_probabilities[:, list(item.wanted.target_ids)]
            yield _difference("masked_lm", item, actual.target_log_probabilities, targets)
    if actual.next_sentence_logits is not None and expected.next_sentence_logits is not None:
        yield _difference("next_sentence", item, actual.next_sentence_logits, expected.next_sentence_logits)
    if actual.class_logits is not None and expected.class_logits is not None:
        yield _difference("classification", item, actual.class_logits, expected.class_logits)
    if actual.tag_logits is not None and expected.tag_logits is not None:
        yield _difference("tagging", item, actual.tag_logits, expected.tag_logits)


def compare_decisions(
    item: Item, actual: ItemOutputs, expected: ReferenceOutputs, problem_type: ProblemType | None = None
) -> Iterator[Decision]:
    """The likeliest word at every mask, the verdict on a pair, the best label of a text and of every token; whether
    each label holds, where a text can have several; nothing of a text's number."""
    if actual.mask_top_ids is not None and expected.mask_log_probabilities is not None:
        for top_ids, log_probabilities in zip(actual.mask_top_ids, expected.mask_log_probabilities, strict=True):
            yield _decide_mask(item, top_ids, log_probabilities)
    if actual.next_sentence_logits is not None and expected.next_sentence_logits is not None:
        yield from _decide("next_sentence", item, actual.next_sentence_logits, expected.next_sentence_logits)
    is_number = problem_type is ProblemType.REGRESSION
    if actual.class_logits is not None and expected.class_logits is not None and not is_number:
        decide = _decide_each if problem_type is ProblemType.MULTI_LABEL else _decide
        yield from decide("classification", item, actual.class_logits, expected.class_logits)
    if actual.tag_logits is not None and expected.tag_logits is not None:
        for logits, reference in zip(actual.tag_logits, expected.tag_logits, strict=True):
            yield from _decide("tagging", item, logits, reference)


def _decide(output: str, item: Item, logits: Float32s, reference: Float32s) -> Iterator[Decision]:
    """Where there is but one label, both choose it."""
    agrees = bool(np.argmax(logits) == np.argmax(reference))
    yield Decision(output=output, item=item, margin=_margin(reference), agrees=agrees)


def _decide_each(output: str, item: Item, logits: Float32s, reference: Float32s) -> Iterator[Decision]:
    """A label holds where its logit is above zero."""
    for logit, expected in zip(logits, reference, strict=True):
        agrees = bool((logit > 0) == (expected > 0))
        yield Decision(output=output, item=item, margin=float(abs(expected)), agrees=agrees)


def _decide_mask(item: Item, top_ids: NDArray[np.int64], log_probabilities: Float32s) -> Decision:
    ranks = min(OVERLAP_RANKS, len(top_ids))
    best = np.argsort(-log_probabilities, kind="stable")[:ranks]
    return Decision(
        output="masked_lm",
        item=item,
        margin=_margin(log_probabilities),
        agrees=bool(top_ids[0] == best[0]),
        overlap=len(set(top_ids[:ranks].tolist()) & set(best.tolist())) / ranks,
    )


def _difference(output: str, item: Item, actual: Float32s, expected: Float32s, layer: int | None = None) -> Difference:
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


def _cosines(actual: Float32s, expected: Float32s) -> NDArray[np.float64]:
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny))


def _margin(values: Float32s) -> float:
    """Infinite where the best is the only one."""
    if len(values) == 1:
        return float("inf")
    second, first = np.partition(values, -2)[-2:]
    return float(first - second)
