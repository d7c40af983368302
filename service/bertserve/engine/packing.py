"""The packed layout: a batch is one row of tokens, items end to end, sorted by length. Pure; no padding anywhere.

Items of equal length form a group, which attention sees as [count, length, hidden]; everything else in the graph sees
[tokens, hidden]. The names below are the graph's inputs and outputs: `bertexport.graph.writer` writes them, and
`engine.ort.session` feeds and fetches them.


    inputs, int64    input_ids, token_type_ids, position_ids [T]
                     group_starts [G + 1]: first row of each group, and T;  group_shapes [G, 3]: count, length, -1
                     mask_rows [M], pooler_rows [P], next_sentence_rows [N], class_rows [C]: rows that a head reads;
                     tag_rows [R]: every row of the items whose tokens are labelled
                     top_k [1];  target_masks [Q]: index into mask_rows, ascending;  target_ids [Q]
                     wanted_layers [W]: layers that any item wants; graphs for long texts alone have it
    outputs          hidden_0 … hidden_L [T, H];  pooled [P, H];  mask_top_ids int64 [M, k], mask_top_log_probs [M, k];
                     target_log_probs [Q];  next_sentence_logits [N, 2];  class_logits [C, labels];
                     tag_logits [R, labels]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertserve.engine.items import Int64s, Item, ItemOutputs

MASK_OUTPUTS = ("mask_top_ids", "mask_top_log_probs", "target_log_probs")


def hidden_output(layer: int) -> str:
    """Name of the graph's output for a layer, 0 = embedding layer."""
    return f"hidden_{layer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """A batch ready to run: what to feed, what to fetch, and where each item's rows begin (in the items' own order)."""

    items: tuple[Item, ...]
    feeds: dict[str, Int64s]
    fetches: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def token_count(self) -> int:
        return len(self.feeds["input_ids"])


def pack(items: Sequence[Item], position_offset: int) -> PackedBatch:
    """Lay items out by ascending length. At least one item, each with at least one token."""
    order = sorted(range(len(items)), key=lambda index: items[index].length)
    starts = [0] * len(items)
    # By length, as they come in order: Python alone is quicker here than numpy, whose calls cost more than such sums.
    counts: dict[int, int] = {}
    group_starts = [0]
    end = 0
    for index in order:
        length = items[index].length
        starts[index] = end
        end += length
        counts[length] = counts.get(length, 0) + 1
    for length, count in counts.items():
        group_starts.append(group_starts[-1] + length * count)
    feeds = {
        "input_ids": np.concatenate([items[index].input_ids for index in order]),
        "token_type_ids": np.concatenate([items[index].token_type_ids for index in order]),
        "position_ids": np.concatenate([_positions(items[index].input_ids, position_offset) for index in order]),
        "group_starts": _rows(group_starts),
        "group_shapes": np.array([(count, length, -1) for length, count in counts.items()], dtype=np.int64),
        "pooler_rows": _rows(start for item, start in zip(items, starts, strict=True) if item.wanted.pooler),
        "next_sentence_rows": _rows(
            start for item, start in zip(items, starts, strict=True) if item.wanted.next_sentence
        ),
        "class_rows": _rows(start for item, start in zip(items, starts, strict=True) if item.wanted.classify),
        "tag_rows": _rows(
            row
            for item, start in zip(items, starts, strict=True)
            if item.wanted.tag
            for row in range(start, start + item.length)
        ),
        "wanted_layers": _rows(_wanted_layers(items)),
        **_mask_feeds(items, starts),
    }
    return PackedBatch(items=tuple(items), feeds=feeds, fetches=_fetches(items), starts=tuple(starts))


def unpack(batch: PackedBatch, outputs: dict[str, NDArray[np.generic]]) -> list[ItemOutputs]:
    """Hand every item its own rows, in the order in which the items were packed. Arrays are views of the outputs."""
    taken = dict.fromkeys((*MASK_OUTPUTS, "pooled", "next_sentence_logits", "class_logits", "tag_logits"), 0)

    def take(name: str, count: int) -> Any:
        start = taken[name]
        taken[name] = start + count
        return outputs[name][start : start + count]

    return [_item_outputs(item, start, outputs, take) for item, start in zip(batch.items, batch.starts, strict=True)]


def _item_outputs(
    item: Item, start: int, outputs: dict[str, NDArray[np.generic]], take: Callable[[str, int], Any]
) -> ItemOutputs:
    wanted, masks = item.wanted, len(item.wanted.mask_positions)
    targets = len(wanted.target_ids)
    return ItemOutputs(
        layers={layer: outputs[hidden_output(layer)][start : start + item.length] for layer in wanted.layers},  # type: ignore[misc]
        pooled=take("pooled", 1)[0] if wanted.pooler else None,
        mask_top_ids=take("mask_top_ids", masks)[:, : wanted.top_k] if masks else None,
        mask_top_log_probabilities=take("mask_top_log_probs", masks)[:, : wanted.top_k] if masks else None,
        target_log_probabilities=take("target_log_probs", masks * targets).reshape(masks, targets) if masks else None,
        next_sentence_logits=take("next_sentence_logits", 1)[0] if wanted.next_sentence else None,
        class_logits=take("class_logits", 1)[0] if wanted.classify else None,
        tag_logits=take("tag_logits", item.length) if wanted.tag else None,
    )


def _positions(input_ids: Int64s, offset: int) -> Int64s:
    """Positions of an item's tokens, from `offset` on.

    Models with an offset count as fairseq's `make_positions` does: the padding token, whose id is offset - 1, has that
    for its position and counts for nothing, also where a caller wrote it.
    """
    if offset == 0:
        return np.arange(len(input_ids), dtype=np.int64)
    counts = input_ids != offset - 1
    positions: Int64s = np.cumsum(counts) * counts + (offset - 1)
    return positions


def _mask_feeds(items: Sequence[Item], starts: Sequence[int]) -> dict[str, Int64s]:
    rows: list[int] = []
    target_masks: list[int] = []
    target_ids: list[int] = []
    for item, start in zip(items, starts, strict=True):
        for position in item.wanted.mask_positions:
            target_masks += [len(rows)] * len(item.wanted.target_ids)
            target_ids += item.wanted.target_ids
            rows.append(start + position)
    # A k of at least one keeps TopK well-formed when nobody asks for predictions.
    top_k = max([1, *(item.wanted.top_k for item in items if item.wanted.mask_positions)])
    return {
        "mask_rows": _rows(rows),
        "top_k": _rows([top_k]),
        "target_masks": _rows(target_masks),
        "target_ids": _rows(target_ids),
    }


def _wanted_layers(items: Sequence[Item]) -> list[int]:
    return sorted({layer for item in items for layer in item.wanted.layers})


def _fetches(items: Sequence[Item]) -> tuple[str, ...]:
    names = [hidden_output(layer) for layer in _wanted_layers(items)]
    if any(item.wanted.mask_positions for item in items):
        names += MASK_OUTPUTS
    if any(item.wanted.pooler for item in items):
        names.append("pooled")
    if any(item.wanted.next_sentence for item in items):
        names.append("next_sentence_logits")
    if any(item.wanted.classify for item in items):
        names.append("class_logits")
    if any(item.wanted.tag for item in items):
        names.append("tag_logits")
    return tuple(names)


def _rows(values: Iterable[int]) -> Int64s:
    return np.fromiter(values, dtype=np.int64)
