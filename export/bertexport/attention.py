"""Attention within each text: a loop over groups of texts of equal length, as [count, length, hidden], without mask or
padding. All else in the graph sees rows of tokens. Reads what `graph` makes of the groups' bounds and shapes.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

from bertexport.nodes import NodeWriter

Nodes = tuple[tuple[str, str, str], ...]

# A name that begins with a dot belongs to the layer and gets its name before it.
ATTEND: Nodes = (
    ("Attention", ".query .key .value", ".attended"),
    ("Reshape", ".attended flat_shape", ".flat"),
    ("SequenceInsert", ".parts .flat", ".parts_out"),
    ("Identity", ".go_on", ".go_on_out"),
)
# Query, key and value side by side in one row, as one product gives them.
MERGED: Nodes = (
    ("Gather", "group_firsts .group", ".first"),
    ("Gather", "group_ends .group", ".end"),
    ("Slice", ".qkv .first .end ints_0", ".rows"),
    ("Gather", "group_shapes .group", ".shape"),
    ("Reshape", ".rows .shape", ".texts"),
    ("Split", ".texts", ".query .key .value"),
    *ATTEND,
)
# Each by itself.
APART: Nodes = (
    ("Gather", "group_firsts .group", ".first"),
    ("Gather", "group_ends .group", ".end"),
    ("Gather", "group_shapes .group", ".shape"),
    ("Slice", ".all_queries .first .end ints_0", ".query_rows"),
    ("Slice", ".all_keys .first .end ints_0", ".key_rows"),
    ("Slice", ".all_values .first .end ints_0", ".value_rows"),
    ("Reshape", ".query_rows .shape", ".query"),
    ("Reshape", ".key_rows .shape", ".key"),
    ("Reshape", ".value_rows .shape", ".value"),
    *ATTEND,
)


def write_attention(writer: NodeWriter, name: str, attention_heads: int, *, merged: bool) -> str:
    """Rows [tokens, hidden] of a layer: from its `.qkv` [tokens, 3 · hidden], or from `.all_queries` and so on."""
    empty = writer.node("SequenceEmpty", [], f"{name}.empty", dtype=TensorProto.FLOAT)
    body = _loop_body(MERGED if merged else APART, name, attention_heads)
    groups = writer.node("Loop", ["group_count", "go_on", empty], f"{name}.groups", body=body)
    return writer.node("ConcatFromSequence", [groups], f"{name}.attended", axis=0)


def _loop_body(nodes: Nodes, name: str, attention_heads: int) -> onnx.GraphProto:
    """One group: its rows cut out, seen as texts, and laid down again as rows."""
    attributes: dict[str, dict[str, Any]] = {
        "Split": {"axis": 2, "num_outputs": 3},
        "Attention": {"q_num_heads": attention_heads, "kv_num_heads": attention_heads},
    }

    def qualify(names: str) -> list[str]:
        return [name + value if value.startswith(".") else value for value in names.split()]

    written = [
        helper.make_node(
            operator, qualify(inputs), qualify(outputs), name=qualify(outputs)[0], **attributes.get(operator, {})
        )
        for operator, inputs, outputs in nodes
    ]
    group = helper.make_tensor_value_info(f"{name}.group", TensorProto.INT64, [])
    go_on = [helper.make_tensor_value_info(f"{name}.go_on{end}", TensorProto.BOOL, []) for end in ("", "_out")]
    parts = [
        helper.make_tensor_sequence_value_info(f"{name}.parts{end}", TensorProto.FLOAT, None) for end in ("", "_out")
    ]
    return helper.make_graph(written, f"{name}.body", [group, go_on[0], parts[0]], [go_on[1], parts[1]])
