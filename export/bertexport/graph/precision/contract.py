"""What a precision is: how the parts of a model are written in it, and what its bundles must keep."""

from __future__ import annotations

from typing import Protocol

from bertserve.engine.items import Float32s

from bertexport.encoders.parts import Part
from bertexport.graph.modules import Linear
from bertexport.graph.nodes import NodeWriter
from bertexport.proof.gates import Gate


class PartWriter(Protocol):
    """Writes the parts of one graph. Every method returns the name of a float32 value with a row for each index or row
    that it reads, and no row depends on another."""

    def look_up(self, role: str, table: Float32s, indices: str) -> str:
        """Rows of an embedding table [entries, width]. role: of the table in `Family.embeddings`."""

    def joins(self, part: Part) -> bool:
        """Whether the part's modules are written as one linear layer, in place of one each."""

    def linear(self, rows: str, part: Part, linear: Linear, output: str) -> str:
        """rows · weightᵀ + bias. linear: a module of the part, or all of them joined."""

    def decode(self, states: str, decoder: Linear, words: Float32s) -> str:
        """Logits over the vocabulary. words: the word table; a decoder that has the same weight may share it."""


class Precision(Protocol):
    """name: as the command, the manifest and the report have it. golden_tolerance: how far a server's outputs may lie
    from the golden ones, relative. gates: of a bundle with every head."""

    @property
    def name(self) -> str: ...

    @property
    def golden_tolerance(self) -> float: ...

    @property
    def gates(self) -> tuple[Gate, ...]: ...

    def open(self, nodes: NodeWriter) -> PartWriter:
        """A writer for the parts of one graph."""
