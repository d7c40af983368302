"""Which rows of a batch a head reads, as arrays of int64. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bertserve.engine.items import Int64s
from bertserve.heads.contract import Placed, Rows


def rows_input(name: str) -> str:
    """Name of the input that lists the rows of a head."""
    return f"{name}_rows"


def texts_input(name: str) -> str:
    """Name of the input that says of each of these rows which text it belongs to, counted among those that ask."""
    return f"{name}_texts"


def firsts_input(name: str) -> str:
    """Name of the input that lists the first row of every text that asks."""
    return f"{name}_firsts"


def lay_out(rows: Rows, name: str, asking: Sequence[Placed]) -> dict[str, Int64s]:
    """The inputs of a head that reads FIRST, ALL or SEGMENTS of these items."""
    firsts = int64s(start for _, start in asking)
    if rows is Rows.FIRST:
        return {rows_input(name): firsts}
    every = {rows_input(name): int64s(row for item, start in asking for row in range(start, start + item.length))}
    if rows is Rows.ALL:
        return every
    texts = np.repeat(np.arange(len(asking), dtype=np.int64), [item.length for item, _ in asking])
    return {**every, texts_input(name): texts, firsts_input(name): firsts}


def int64s(values: Iterable[int]) -> Int64s:
    return np.fromiter(values, dtype=np.int64)
