"""Attention within each text: a loop over groups of texts of equal length, as [count, length, hidden], without mask or
padding. All else in the graph sees rows of tokens. Reads what `graph` makes of the groups' bounds and shapes.

ONNX's Attention holds the scores of a whole text at once: heads × length² × 4 bytes. A text longer than
LONG_TEXT_TOKENS takes ONNX Runtime's MultiHeadAttention instead. Without a mask it runs as flash attention (Dao et al.,
arXiv:2205.14135), whose memory grows with the length alone. The text's own length decides, so its neighbours change no
bit of its result. A graph whose texts are all shorter has no such branch.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

from bertexport.graph.nodes import CONTRIB_DOMAIN, NodeWriter

Nodes = tuple[tuple[str, str, str], ...]

# A name that begins with a dot belongs to the layer and gets its name before it.
ATTEND: Nodes = (("Attention", ".query .key .value", ".attended"),)
ATTEND_LONG: Nodes = (("MultiHeadAttention", ".query .key .value", ".attended_long"),)
# By the group's length, one or the other.
ATTEND_EITHER: Nodes = (
    ("Gather", "group_is_long .group", ".is_long"),
    ("If", ".is_long", ".attended"),
)
COLLECT: Nodes = (
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
)


def write_attention(
    writer: NodeWriter, name: str, attention_heads: int, *, merged: bool, long_texts: bool, go_on: str = "go_on"
) -> str:
    """Rows [tokens, hidden] of a layer: from its `.qkv` [tokens, 3 · hidden], or from `.all_queries` and so on.

    long_texts: whether a text may be longer than LONG_TEXT_TOKENS; the loop then reads `group_is_long` as well.
    go_on: the value, always true, that the loop begins with.
    """
    empty = writer.node("SequenceEmpty", [], f"{name}.empty", dtype=TensorProto.FLOAT)
    nodes = (*(MERGED if merged else APART), *(ATTEND_EITHER if long_texts else ATTEND), *COLLECT)
    body = _loop_body(nodes, name, attention_heads)
    groups = writer.node("Loop", ["group_count", go_on, empty], f"{name}.groups", body=body)
    return writer.node("ConcatFromSequence", [groups], f"{name}.attended", axis=0)


def _loop_body(nodes: Nodes, name: str, attention_heads: int) -> onnx.GraphProto:
    """One group: its rows cut out, seen as texts, and laid down again as rows."""
    group = helper.make_tensor_value_info(f"{name}.group", TensorProto.INT64, [])
    go_on = [helper.make_tensor_value_info(f"{name}.go_on{end}", TensorProto.BOOL, []) for end in ("", "_out")]
    parts = [
        helper.make_tensor_sequence_value_info(f"{name}.parts{end}", TensorProto.FLOAT, None) for end in ("", "_out")
    ]
    written = _write_nodes(nodes, name, attention_heads)
    return helper.make_graph(written, f"{name}.body", [group, go_on[0], parts[0]], [go_on[1], parts[1]])


def _write_nodes(nodes: Nodes, name: str, attention_heads: int) -> list[onnx.NodeProto]:
    def qualify(names: str) -> list[str]:
        return [name + value if value.startswith(".") else value for value in names.split()]

    return [
        helper.make_node(
            operator,
            qualify(inputs),
            qualify(outputs),
            name=qualify(outputs)[0],
            **_attributes(operator, name, attention_heads),
        )
        for operator, inputs, outputs in nodes
    ]


def _attributes(operator: str, name: str, attention_heads: int) -> dict[str, Any]:
    match operator:
        case "Split":
            return {"axis": 2, "num_outputs": 3}
        case "Attention":
            return {"q_num_heads": attention_heads, "kv_num_heads": attention_heads}
        case "MultiHeadAttention":
            return {"num_heads": attention_heads, "domain": CONTRIB_DOMAIN}
        case "If":
            return {
                "then_branch": _branch(ATTEND_LONG, name, attention_heads),
                "else_branch": _branch(ATTEND, name, attention_heads),
            }
    return {}


def _branch(nodes: Nodes, name: str, attention_heads: int) -> onnx.GraphProto:
    """A branch of an If: it reads the loop's values and gives the last node's output."""
    written = _write_nodes(nodes, name, attention_heads)
    output = written[-1].output[0]
    return helper.make_graph(
        written, f"{output}.branch", [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    )
