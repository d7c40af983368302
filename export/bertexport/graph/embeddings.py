"""The embeddings: tables looked up and summed, a norm, and the projection to the layers' size if the sizes differ."""

from __future__ import annotations

from collections.abc import Mapping

from bertexport.encoders.family import Family
from bertexport.encoders.spec import Positions
from bertexport.graph.modules import ModuleWriter
from bertexport.graph.precision.contract import PartWriter

# Table of `Family.embeddings` → the graph's input that says which of its rows a token takes.
INDICES = {"word": "input_ids", "token_type": "token_type_ids", "position": "position_ids"}
# How positions enter → the tables that they add to the sum.
POSITION_TABLES: Mapping[Positions, tuple[str, ...]] = {Positions.TABLE: ("position",)}


def summed_tables(family: Family) -> dict[str, str]:
    """Table → its input of INDICES, in the order of the sum."""
    roles = ("word", "token_type", *POSITION_TABLES[family.spec.positions])
    return {role: INDICES[role] for role in roles if role in family.embeddings}


def write_embeddings(modules: ModuleWriter, part_writer: PartWriter, output: str) -> None:
    """The rows [tokens, hidden] that the first layer reads."""
    family, nodes = modules.weights.family, modules.nodes
    total, *others = (
        part_writer.look_up(role, modules.tensors(family.embeddings[role])["weight"], indices)
        for role, indices in summed_tables(family).items()
    )
    for rows in others:
        total = nodes.node("Add", [total, rows], f"{rows}_sum")
    norm = family.embeddings["embedding_norm"]
    if modules.architecture.projects and family.projection is not None:
        modules.linear(modules.normalize(total, norm, "embeddings"), family.projection, output)
    else:
        modules.normalize(total, norm, output)
