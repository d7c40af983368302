"""What the export has to know of a head: how to ask it, how to write it, and what PyTorch gives for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bertserve.bundle import Head
from bertserve.engine.items import Float32s, Item, Wanted
from bertserve.heads.contract import HeadKind

from bertexport.graph.heads import HeadWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A text or pair that a bundle is verified on, and the sizes of the model. masks: rows of its masks."""

    masks: tuple[int, ...]
    is_pair: bool
    layer_count: int
    vocabulary_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """What PyTorch gave for one input alone, unpadded, float32.

    layers: [length, hidden] each, embedding layer first. pooled: [hidden], None where no class has a pooler. logits: of
    the heads that classes of `transformers` have.
    """

    item: Item
    layers: tuple[Float32s, ...]
    pooled: Float32s | None
    logits: Mapping[Head, Float32s]


class ExportedHead(Protocol):
    """A head, as the export sees it."""

    @property
    def kind(self) -> HeadKind:
        """What the server knows of it."""

    @property
    def joint_output(self) -> str:
        """What classes of `transformers` that have several heads call this one's output; empty if there is none."""

    def ask(self, wanted: Wanted, probe: Probe) -> Wanted:
        """The same wish, and all that the head can give for the text."""

    def narrow(self, wanted: Wanted) -> Wanted:
        """The same wish with no more of this head than a golden case should hold."""

    def aim(self, wanted: Wanted, reference: Any) -> Wanted:
        """The same wish with what is worth comparing in a golden case, by PyTorch's result."""

    def refer(self, forward: Forward) -> Any:
        """PyTorch's result, in the form that `kind` compares with."""

    def write(self, graph: HeadWriter) -> None:
        """Write inputs, nodes and outputs."""
