"""Hidden states. The encoder itself writes them into the graph, layer by layer: see `graph.layer_outputs`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bertserve.engine.items import Float32s, Wanted
from bertserve.heads.contract import HeadKind
from bertserve.heads.embedding import EMBEDDING

from bertexport.graph.heads import HeadWriter
from bertexport.heads.contract import Forward, Probe


@dataclass(frozen=True, slots=True)
class HiddenStatesExport:
    """All layers are verified; the first and the last are in golden cases."""

    kind: HeadKind = EMBEDDING
    joint_output: str = ""

    def ask(self, wanted: Wanted, probe: Probe) -> Wanted:
        return replace(wanted, layers=tuple(range(probe.layer_count + 1)))

    def narrow(self, wanted: Wanted) -> Wanted:
        return replace(wanted, layers=(wanted.layers[0], wanted.layers[-1]))

    def aim(self, wanted: Wanted, reference: Any) -> Wanted:  # noqa: ARG002
        return wanted

    def refer(self, forward: Forward) -> tuple[Float32s, ...]:
        return forward.layers

    def write(self, graph: HeadWriter) -> None:
        """Nothing is left to write."""


EXPORT = HiddenStatesExport()
