"""The groups of texts of equal length, as every layer's attention reads them: written once a graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bertserve.engine.ort.run_memory import LONG_TEXT_TOKENS

from bertexport.graph.nodes import NodeWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Names of values. firsts, ends: a group's first row and the one after its last, [groups, 1]. shapes: [groups, 3],
    count, length and hidden size. count: of groups, a scalar. flat_shape: of rows, to undo a group's shape.

    are_long: [groups], whether the texts exceed LONG_TEXT_TOKENS; None if no text of the model can.
    """

    firsts: str
    ends: str
    shapes: str
    count: str
    flat_shape: str
    are_long: str | None


def write_groups(writer: NodeWriter, hidden_size: int, *, long_texts: bool) -> Groups:
    """Read the inputs `group_starts` and `group_shapes`. long_texts: whether a text may exceed LONG_TEXT_TOKENS."""
    writer.constant("go_on", np.array(True))
    flat_shape = writer.constant("flat_shape", np.array([-1, hidden_size]))
    last, axis = writer.ints(np.iinfo(np.int64).max), writer.ints(0)
    firsts, ends = (
        _write_bounds(writer, name, start, end)
        for name, start, end in (
            ("group_firsts", writer.ints(0), writer.ints(-1)),
            ("group_ends", writer.ints(1), last),
        )
    )
    size = writer.node("Shape", ["group_shapes"], "group_count.shape", start=0, end=1)
    count = writer.node("Squeeze", [size, axis], "group_count")
    are_long = None
    if long_texts:
        lengths = writer.node("Gather", ["group_shapes", writer.ints(1)], "group_lengths", axis=1)
        are_long = writer.node("Greater", [lengths, writer.ints(LONG_TEXT_TOKENS)], "group_is_long")
    return Groups(
        firsts=firsts, ends=ends, shapes="group_shapes", count=count, flat_shape=flat_shape, are_long=are_long
    )


def _write_bounds(writer: NodeWriter, name: str, start: str, end: str) -> str:
    """A part of `group_starts` as a column."""
    bounds = writer.node("Slice", ["group_starts", start, end, writer.ints(0)], f"{name}.flat")
    return writer.node("Unsqueeze", [bounds, writer.ints(1)], name)
