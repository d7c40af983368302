"""The attention of a layer: query, key and value, what a token gathers from its text, and the projection of that."""

from __future__ import annotations

from bertexport.graph.attention_loop import QueryKeyValue, write_attention_loop
from bertexport.graph.layer import Layer
from bertexport.graph.modules import Linear, join


def write_attention(layer: Layer, rows: str) -> str:
    """Rows [tokens, hidden] → rows of the same shape, before they are added to anything."""
    query, key, value = layer.read("qkv")
    (projection,) = layer.read("projection")
    attended: str | QueryKeyValue
    if layer.part_writer.joins(layer.parts["qkv"]):
        attended = layer.linear(rows, "qkv", join(query, key, value, name=layer.parts["qkv"].name))
    else:
        attended = _project_apart(layer, rows, query, key, value)
        projection = _take_over_bias(projection, value)
    gathered = write_attention_loop(
        layer.nodes,
        layer.spec,
        layer.name,
        attended,
        layer.groups,
        layer.modules.architecture.attention_heads,
        layer.go_on,
    )
    return layer.linear(gathered, "projection", projection)


def _project_apart(layer: Layer, rows: str, query: Linear, key: Linear, value: Linear) -> QueryKeyValue:
    """Query, key and value, each by itself, with no more passes over their rows than there have to be.

    Only the query needs its bias here. The key's adds the same to all scores of a query, which softmax does not see;
    the value's comes through attention as it is, whose weights sum to 1, and is added with the projection's.
    """
    part = layer.parts["qkv"]
    queries, keys, values = (
        layer.part_writer.linear(rows, part, Linear(weight, bias, f"layer_{part.layer}.{name}"), f"{layer.name}.{name}")
        for name, weight, bias in (
            ("all_queries", query.weight, query.bias),
            ("all_keys", key.weight, None),
            ("all_values", value.weight, None),
        )
    )
    return queries, keys, values


def _take_over_bias(projection: Linear, value: Linear) -> Linear:
    """The projection with what the value's bias adds to its outputs."""
    if value.bias is None:
        return projection
    added = projection.weight @ value.bias
    bias = added if projection.bias is None else projection.bias + added
    return Linear(projection.weight, bias, projection.name)
