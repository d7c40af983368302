"""The pretrained pooler: a dense layer and tanh over the first token's row."""

from __future__ import annotations

from bertserve.bundle import Head
from bertserve.heads.contract import Rows
from bertserve.heads.row_head import RowHead

POOLER = RowHead(
    head=Head.POOLER,
    rows=Rows.FIRST,
    figure="pooler",
    ask="pooler",
    name="pooler",
    output="pooled",
    size="hidden",
)
