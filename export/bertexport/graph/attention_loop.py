"""What query, key and value become within each text: a loop over groups of texts of equal length, as [count, length,
hidden], without mask or padding. All else in the graph sees rows of tokens.

ONNX's Attention holds the scores of a whole text at once: heads × length² × 4 bytes. A text longer than
LONG_TEXT_TOKENS takes ONNX Runtime's MultiHeadAttention instead. Without a mask it runs as flash attention (Dao et al.,
arXiv:2205.14135), whose memory grows with the length alone. The text's own length decides, so its neighbours change no
bit of its result. A graph whose texts are all shorter has no such branch.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import TensorProto, helper

from bertexport.encoders.spec import EncoderSpec, Keys, Span
from bertexport.graph.groups import Groups
from bertexport.graph.nodes import CONTRIB_DOMAIN, NodeWriter

# The names of three values.
QueryKeyValue = tuple[str, str, str]


def write_attention_loop(
    writer: NodeWriter,
    spec: EncoderSpec,
    name: str,
    rows: str | QueryKeyValue,
    groups: Groups,
    attention_heads: int,
    go_on: str,
) -> str:
    """Rows [tokens, hidden], what each token of a text gathers from all tokens of the text.

    rows: query, key and value side by side in one value [tokens, 3 · hidden], or in three of [tokens, hidden].
    go_on: a true value, with which the loop begins.
    """
    empty = writer.node("SequenceEmpty", [], f"{name}.empty", dtype=TensorProto.FLOAT)
    body = BODIES[spec.span, spec.keys](writer, name, groups, attention_heads).write(rows)
    parts = writer.node("Loop", [groups.count, go_on, empty], f"{name}.groups", body=body)
    return writer.node("ConcatFromSequence", [parts], f"{name}.attended", axis=0)


class _GroupBody:
    """The body of the loop: one group's rows cut out, seen as texts, and laid down again as rows."""

    def __init__(self, writer: NodeWriter, name: str, groups: Groups, attention_heads: int) -> None:
        self._writer = writer
        self._name = name
        self._groups = groups
        self._attention_heads = attention_heads
        self._group = f"{name}.group"

    def write(self, rows: str | QueryKeyValue) -> onnx.GraphProto:
        writer, name = self._writer, self._name
        parts, go_on = f"{name}.parts", f"{name}.go_on"
        with writer.subgraph() as nodes:
            texts = self._cut_joined(rows) if isinstance(rows, str) else self._cut_apart(*rows)
            are_long = self._groups.are_long
            attended = self._attend(texts) if are_long is None else self._attend_either(texts, are_long)
            flat = writer.node("Reshape", [attended, self._groups.flat_shape], f"{name}.flat")
            writer.node("SequenceInsert", [parts, flat], f"{parts}_out")
            writer.node("Identity", [go_on], f"{go_on}_out")
        inputs = [
            helper.make_tensor_value_info(self._group, TensorProto.INT64, []),
            helper.make_tensor_value_info(go_on, TensorProto.BOOL, []),
            helper.make_tensor_sequence_value_info(parts, TensorProto.FLOAT, None),
        ]
        outputs = [
            helper.make_tensor_value_info(f"{go_on}_out", TensorProto.BOOL, []),
            helper.make_tensor_sequence_value_info(f"{parts}_out", TensorProto.FLOAT, None),
        ]
        return helper.make_graph(nodes, f"{name}.body", inputs, outputs)

    def _cut_joined(self, joined: str) -> QueryKeyValue:
        """The group's part of rows [tokens, 3 · hidden]."""
        writer, name = self._writer, self._name
        first, end = self._pick(self._groups.firsts, "first"), self._pick(self._groups.ends, "end")
        rows = writer.node("Slice", [joined, first, end, writer.ints(0)], f"{name}.rows")
        texts = writer.node("Reshape", [rows, self._pick(self._groups.shapes, "shape")], f"{name}.texts")
        outputs = [f"{name}.query", f"{name}.key", f"{name}.value"]
        query, key, value = writer.nodes_out("Split", [texts], outputs, axis=2, num_outputs=3)
        return query, key, value

    def _cut_apart(self, queries: str, keys: str, values: str) -> QueryKeyValue:
        """The group's part of rows [tokens, hidden], three times."""
        writer, name = self._writer, self._name
        first, end = self._pick(self._groups.firsts, "first"), self._pick(self._groups.ends, "end")
        shape = self._pick(self._groups.shapes, "shape")
        query_rows, key_rows, value_rows = (
            writer.node("Slice", [rows, first, end, writer.ints(0)], f"{name}.{role}_rows")
            for rows, role in ((queries, "query"), (keys, "key"), (values, "value"))
        )
        query = writer.node("Reshape", [query_rows, shape], f"{name}.query")
        key = writer.node("Reshape", [key_rows, shape], f"{name}.key")
        value = writer.node("Reshape", [value_rows, shape], f"{name}.value")
        return query, key, value

    def _pick(self, values: str, name: str) -> str:
        """The group's own of values that there are for every group."""
        return self._writer.node("Gather", [values, self._group], f"{self._name}.{name}")

    def _attend(self, texts: QueryKeyValue) -> str:
        heads = self._attention_heads
        return self._writer.node(
            "Attention", list(texts), f"{self._name}.attended", q_num_heads=heads, kv_num_heads=heads
        )

    def _attend_long(self, texts: QueryKeyValue) -> str:
        return self._writer.node(
            "MultiHeadAttention",
            list(texts),
            f"{self._name}.attended_long",
            num_heads=self._attention_heads,
            domain=CONTRIB_DOMAIN,
        )

    def _attend_either(self, texts: QueryKeyValue, are_long: str) -> str:
        """One or the other, by the group's length."""
        is_long = self._pick(are_long, "is_long")
        branches = {
            "then_branch": self._branch(self._attend_long, texts),
            "else_branch": self._branch(self._attend, texts),
        }
        return self._writer.node("If", [is_long], f"{self._name}.attended", **branches)

    def _branch(self, attend: Callable[[QueryKeyValue], str], texts: QueryKeyValue) -> onnx.GraphProto:
        """A branch of an If reads the loop's values, and gives the attention's output."""
        with self._writer.subgraph() as nodes:
            output = attend(texts)
        given = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, f"{output}.branch", [], [given])


# What a token attends to → the body of the loop.
BODIES = {(Span.ALL, Keys.ALL): _GroupBody}
