"""The packed layout: a batch is one row of tokens, items end to end, sorted by length. Pure; no padding anywhere.

Items of equal length form a group, which attention sees as [count, length, hidden]; everything else in the graph sees
[tokens, hidden]. Below are the inputs of the encoder. `bertserve.heads` names the inputs and outputs of each head;
`bertexport.graph` writes all of them, and `engine.ort.session` feeds and fetches them.

    inputs, int64    input_ids, token_type_ids, position_ids [T]
                     group_starts [G + 1]: first row of each group, and T;  group_shapes [G, 3]: count, length, -1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertserve.bundle import Head
from bertserve.engine.items import Int64s, Item, ItemOutputs
from bertserve.heads.layout import int64s
from bertserve.heads.registry import HEADS

# Inputs of every head when no item asks it.
UNASKED = {name: values for kind in HEADS.values() for name, values in kind.feed([]).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """A batch ready to run: what to feed, what to fetch, and where each item's rows begin (in the items' own order).

    asking: the heads that any item asks, and the indexes of the items that do.
    """

    items: tuple[Item, ...]
    feeds: dict[str, Int64s]
    fetches: tuple[str, ...]
    starts: tuple[int, ...]
    asking: Mapping[Head, Sequence[int]]

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
        **UNASKED,
        "input_ids": np.concatenate([items[index].input_ids for index in order]),
        "token_type_ids": np.concatenate([items[index].token_type_ids for index in order]),
        "position_ids": np.concatenate([_positions(items[index].input_ids, position_offset) for index in order]),
        "group_starts": int64s(group_starts),
        "group_shapes": np.array([(count, length, -1) for length, count in counts.items()], dtype=np.int64),
    }
    asking = _find_asking(items)
    fetches: list[str] = []
    for head, indexes in asking.items():
        placed = [(items[index], starts[index]) for index in indexes]
        feeds |= HEADS[head].feed(placed)
        fetches += HEADS[head].fetch(placed)
    return PackedBatch(items=tuple(items), feeds=feeds, fetches=tuple(fetches), starts=tuple(starts), asking=asking)


def unpack(batch: PackedBatch, outputs: dict[str, NDArray[np.generic]]) -> list[ItemOutputs]:
    """Hand every item its own rows, in the order in which the items were packed. Arrays are views of the outputs."""
    taken = dict.fromkeys(outputs, 0)

    def take(name: str, count: int) -> Any:
        start = taken[name]
        taken[name] = start + count
        return outputs[name][start : start + count]

    unpacked: list[dict[str, Any]] = [{} for _ in batch.items]
    for head, indexes in batch.asking.items():
        unpack_item = HEADS[head].unpack
        for index in indexes:
            unpacked[index] |= unpack_item(batch.items[index], batch.starts[index], outputs, take)
    return [ItemOutputs(**fields) for fields in unpacked]


def _find_asking(items: Sequence[Item]) -> dict[Head, list[int]]:
    asking = {
        head: [index for index, item in enumerate(items) if kind.is_asked(item.wanted)] for head, kind in HEADS.items()
    }
    return {head: indexes for head, indexes in asking.items() if indexes}


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
