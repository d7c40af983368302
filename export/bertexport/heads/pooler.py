"""The pooler. Its result in PyTorch is the base model's own, whichever class holds it."""

from __future__ import annotations

from dataclasses import dataclass

from bertserve.engine.items import Float32s
from bertserve.heads.pooler import POOLER

from bertexport.errors import ExportError
from bertexport.heads.contract import Forward
from bertexport.heads.row_export import RowExport


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerExport(RowExport):
    """A head that no class of `transformers` is named after."""

    def refer(self, forward: Forward) -> Float32s:
        """tanh applied."""
        if forward.pooled is None:
            raise ExportError("transformers' classes have no pooler, which the graph is made of; this is a bug")
        return forward.pooled


EXPORT = PoolerExport(kind=POOLER)
