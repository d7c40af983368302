"""The form that most heads have: the family's steps over some rows, as a class of `transformers` computes them too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bertserve.engine.items import Float32s, Wanted
from bertserve.heads.layout import rows_input
from bertserve.heads.row_head import RowHead

from bertexport.graph.heads import HeadWriter
from bertexport.heads.contract import Forward, Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class RowExport:
    """A head that reads FIRST or ALL. needs_pair: whether only pairs can ask for it."""

    kind: RowHead
    joint_output: str = ""
    needs_pair: bool = False

    def ask(self, wanted: Wanted, probe: Probe) -> Wanted:
        field: dict[str, Any] = {self.kind.ask: probe.is_pair or not self.needs_pair}
        return replace(wanted, **field)

    def narrow(self, wanted: Wanted) -> Wanted:
        return wanted

    def aim(self, wanted: Wanted, reference: Any) -> Wanted:  # noqa: ARG002
        return wanted

    def refer(self, forward: Forward) -> Float32s:
        """The logits of the class."""
        return forward.logits[self.kind.head]

    def write(self, graph: HeadWriter) -> None:
        kind = self.kind
        graph.add_inputs(kind.inputs)
        hidden = graph.modules.nodes.gather(graph.last_rows, rows_input(kind.name), f"{kind.output}.hidden")
        graph.apply(graph.modules.weights.family.heads[kind.head], hidden, kind.output)
        graph.add_outputs(kind.outputs)
