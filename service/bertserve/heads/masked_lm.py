"""Masked words: for every mask of a text the k likeliest tokens, and the asked targets, as log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertserve.bundle import Head, ModelFacts, ProblemType
from bertserve.engine.items import Float32s, Int64s, Item, ItemOutputs, Wanted
from bertserve.heads.comparison import Decision, Difference, decide_ranking, measure_difference
from bertserve.heads.contract import Placed, Port, Rows, Take
from bertserve.heads.layout import int64s

MASK_ROWS, TARGET_MASKS, TARGET_IDS, TOP_K = "mask_rows", "target_masks", "target_ids", "top_k"
TOP_IDS, TOP_LOG_PROBS, TARGET_LOG_PROBS = "mask_top_ids", "mask_top_log_probs", "target_log_probs"


@dataclass(frozen=True, slots=True)
class MaskedWords:
    """The head itself. Its reference: log-probabilities, float32 [masks, vocabulary].

    target_masks: of every target the index of its mask in mask_rows, ascending. Ids of the likeliest tokens are not
    comparable, since near ties may fall either way.
    """

    head: Head = Head.MASKED_LM
    rows: Rows = Rows.MASKS
    figure: str = "masked_lm"
    agreement: str | None = "masked_lm_top1_agreement"
    inputs: tuple[Port, ...] = (
        Port(name=MASK_ROWS, shape=("masks",), ints=True),
        Port(name=TARGET_MASKS, shape=("targets",), ints=True),
        Port(name=TARGET_IDS, shape=("targets",), ints=True),
        Port(name=TOP_K, shape=(1,), ints=True),
    )
    outputs: tuple[Port, ...] = (
        Port(name=TOP_IDS, shape=("masks", "k"), ints=True),
        Port(name=TOP_LOG_PROBS, shape=("masks", "k")),
        Port(name=TARGET_LOG_PROBS, shape=("targets",)),
    )

    def is_asked(self, wanted: Wanted) -> bool:
        return bool(wanted.mask_positions)

    def feed(self, asking: Sequence[Placed]) -> dict[str, Int64s]:
        rows: list[int] = []
        target_masks: list[int] = []
        target_ids: list[int] = []
        for item, start in asking:
            for position in item.wanted.mask_positions:
                target_masks += [len(rows)] * len(item.wanted.target_ids)
                target_ids += item.wanted.target_ids
                rows.append(start + position)
        # A k of at least one keeps TopK well-formed when nobody asks for predictions.
        top_k = max([1, *(item.wanted.top_k for item, _ in asking)])
        return {
            MASK_ROWS: int64s(rows),
            TOP_K: int64s([top_k]),
            TARGET_MASKS: int64s(target_masks),
            TARGET_IDS: int64s(target_ids),
        }

    def fetch(self, asking: Sequence[Placed]) -> tuple[str, ...]:  # noqa: ARG002
        return (TOP_IDS, TOP_LOG_PROBS, TARGET_LOG_PROBS)

    def unpack(self, item: Item, start: int, outputs: dict[str, Any], take: Take) -> dict[str, Any]:  # noqa: ARG002
        wanted = item.wanted
        masks, targets = len(wanted.mask_positions), len(wanted.target_ids)
        return {
            "mask_top_ids": take(TOP_IDS, masks)[:, : wanted.top_k],
            "mask_top_log_probabilities": take(TOP_LOG_PROBS, masks)[:, : wanted.top_k],
            "target_log_probabilities": take(TARGET_LOG_PROBS, masks * targets).reshape(masks, targets),
        }

    def comparable(self, outputs: ItemOutputs) -> dict[str, Float32s]:
        named = {
            "mask_top_log_probabilities": outputs.mask_top_log_probabilities,
            "target_log_probabilities": outputs.target_log_probabilities,
        }
        return {name: values for name, values in named.items() if values is not None}

    def expected(self, wanted: Wanted, reference: Float32s) -> dict[str, Float32s]:
        if not wanted.mask_positions:
            return {}
        return {
            "mask_top_log_probabilities": -np.sort(-reference, axis=1)[:, : wanted.top_k],
            "target_log_probabilities": reference[:, list(wanted.target_ids)],
        }

    def differences(self, item: Item, actual: ItemOutputs, reference: Float32s) -> Iterator[Difference]:
        """Of the tokens that the bundle finds likeliest, and of the targets."""
        if actual.mask_top_ids is not None and actual.mask_top_log_probabilities is not None:
            likeliest = np.take_along_axis(reference, actual.mask_top_ids, axis=1)
            yield measure_difference(self.figure, item, actual.mask_top_log_probabilities, likeliest)
        if actual.target_log_probabilities is not None:
            targets = reference[:, list(item.wanted.target_ids)]
            yield measure_difference(self.figure, item, actual.target_log_probabilities, targets)

    def decisions(
        self,
        item: Item,
        actual: ItemOutputs,
        reference: Float32s,
        problem_type: ProblemType | None,  # noqa: ARG002
    ) -> Iterator[Decision]:
        """The likeliest word at every mask."""
        if actual.mask_top_ids is not None:
            for top_ids, log_probabilities in zip(actual.mask_top_ids, reference, strict=True):
                yield decide_ranking(self.figure, item, top_ids, log_probabilities)

    def count_numbers(self, facts: ModelFacts, item: Item) -> int:
        """Ids and log-probabilities of the likeliest tokens, log-probabilities of the targets."""
        wanted = item.wanted
        predictions = 2 * min(wanted.top_k, facts.vocabulary_size)
        return len(wanted.mask_positions) * (predictions + len(wanted.target_ids))


MASKED_LM = MaskedWords()
