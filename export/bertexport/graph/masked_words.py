"""The last step of the masked-LM head: logits over the vocabulary, the k likeliest tokens and the asked targets.

The logits of all masks are one array of masks × vocabulary. A text that is nothing but masks makes it as long as the
text: 8 GB for 8,192 tokens and 250,000 pieces. Where it may exceed LOGITS_BYTES, a loop takes a few masks at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from bertserve.engine.ort.run_memory import FEW_MASKS, LOGITS_BYTES
from onnx import TensorProto, helper

from bertexport.graph.nodes import NodeWriter

# The outputs of the head, and the type of each.
OUTPUT_TYPES = {
    "mask_top_ids": TensorProto.INT64,
    "mask_top_log_probs": TensorProto.FLOAT,
    "target_log_probs": TensorProto.FLOAT,
}

Decode = Callable[[str], str]


def write_masked_words(
    writer: NodeWriter, states: str, decode: Decode, *, vocabulary_size: int, longest_text: int
) -> None:
    """Write OUTPUT_TYPES from the states [masks, hidden] of the mask rows. decode: rows of states → their logits.

    Reads the inputs `mask_rows`, `top_k`, `target_masks` in ascending order, and `target_ids`.
    """
    rows_at_once = LOGITS_BYTES // (4 * vocabulary_size)
    if longest_text <= rows_at_once:
        log_probs = writer.node("LogSoftmax", [decode(states)], "mask_log_probs", axis=-1)
        top_k = _limit_top_k(writer, vocabulary_size)
        _write_answers(writer, log_probs, top_k, ("target_masks", "target_ids"), "")
    else:
        _write_loop(writer, states, decode, _limit_top_k(writer, vocabulary_size), max(1, rows_at_once))


def _limit_top_k(writer: NodeWriter, vocabulary_size: int) -> str:
    return writer.node("Min", ["top_k", writer.ints(vocabulary_size)], "top_k_in_vocabulary")


def _write_answers(writer: NodeWriter, log_probs: str, top_k: str, targets: tuple[str, str], suffix: str) -> None:
    """The likeliest tokens of each row, and the targets: pairs of a row and a token id."""
    tops = [f"mask_top_log_probs{suffix}", f"mask_top_ids{suffix}"]
    writer.nodes_out("TopK", [log_probs, top_k], tops, axis=-1)
    pairs = [writer.node("Unsqueeze", [name, writer.ints(1)], f"{name}.column") for name in targets]
    pair = writer.node("Concat", pairs, f"targets{suffix}", axis=1)
    writer.node("GatherND", [log_probs, pair], f"target_log_probs{suffix}")


def _write_loop(writer: NodeWriter, states: str, decode: Decode, top_k: str, rows_at_once: int) -> None:
    """The same, `rows_at_once` masks at a time. Without a mask the loop runs once, over no rows."""
    writer.properties[FEW_MASKS] = str(rows_at_once)
    writer.constant("go_on", np.array(True))
    size = writer.node("Shape", ["mask_rows"], "mask_count")
    rounded = writer.node("Add", [size, writer.ints(rows_at_once - 1)], "mask_count.rounded")
    chunks = writer.node("Div", [rounded, writer.ints(rows_at_once)], "mask_chunks.floor")
    chunks = writer.node("Max", [chunks, writer.ints(1)], "mask_chunks.flat")
    count = writer.node("Squeeze", [chunks], "mask_chunks")
    empties = [
        writer.node("SequenceEmpty", [], f"{name}.empty", dtype=data_type) for name, data_type in OUTPUT_TYPES.items()
    ]
    body = _chunk_body(writer, states, decode, top_k, rows_at_once)
    sequences = writer.nodes_out(
        "Loop", [count, "go_on", *empties], [f"{name}.chunks" for name in OUTPUT_TYPES], body=body
    )
    for name, sequence in zip(OUTPUT_TYPES, sequences, strict=True):
        writer.node("ConcatFromSequence", [sequence], name, axis=0)


def _chunk_body(writer: NodeWriter, states: str, decode: Decode, top_k: str, rows_at_once: int) -> onnx.GraphProto:
    with writer.subgraph() as nodes:
        start = writer.node("Mul", ["mask_chunk", writer.ints(rows_at_once)], "chunk_start")
        end = writer.node("Add", [start, writer.ints(rows_at_once)], "chunk_end")
        rows = writer.node("Slice", [states, start, end, writer.ints(0)], "chunk_states")
        log_probs = writer.node("LogSoftmax", [decode(rows)], "chunk_log_probs", axis=-1)
        _write_answers(writer, log_probs, top_k, _targets_of_chunk(writer, start, end), ".chunk")
        for name in OUTPUT_TYPES:
            writer.node("SequenceInsert", [f"{name}.before", f"{name}.chunk"], f"{name}.after")
        writer.node("Identity", ["chunk_go_on"], "chunk_go_on_out")
    chunk = helper.make_tensor_value_info("mask_chunk", TensorProto.INT64, [])
    go_on = [helper.make_tensor_value_info(f"chunk_go_on{end}", TensorProto.BOOL, []) for end in ("", "_out")]
    parts = [
        [
            helper.make_tensor_sequence_value_info(f"{name}.{side}", data_type, None)
            for name, data_type in OUTPUT_TYPES.items()
        ]
        for side in ("before", "after")
    ]
    return helper.make_graph(nodes, "mask_chunk.body", [chunk, go_on[0], *parts[0]], [go_on[1], *parts[1]])


def _targets_of_chunk(writer: NodeWriter, start: str, end: str) -> tuple[str, str]:
    """The targets whose masks are in a chunk, as rows of the chunk and token ids. They stand in the order of masks."""
    bounds = []
    for name, bound in (("first", start), ("end", end)):
        before = writer.node("Less", ["target_masks", bound], f"targets.before_{name}")
        counted = writer.node("Cast", [before], f"targets.counted_{name}", to=TensorProto.INT64)
        bounds.append(writer.node("ReduceSum", [counted], f"targets.{name}", keepdims=1))
    masks, ids = (
        writer.node("Slice", [name, *bounds, writer.ints(0)], f"{name}.chunk")
        for name in ("target_masks", "target_ids")
    )
    return writer.node("Sub", [masks, start], "target_rows.chunk"), ids
