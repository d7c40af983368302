"""Token classification: a logit a label over every row of a text."""

from __future__ import annotations

from collections.abc import Iterator

from bertserve.bundle import Head, ProblemType
from bertserve.engine.items import Float32s, Item
from bertserve.heads.comparison import Decision, decide_best
from bertserve.heads.contract import Rows
from bertserve.heads.row_head import RowHead


def _decide(
    figure: str, item: Item, logits: Float32s, reference: Float32s, _: ProblemType | None
) -> Iterator[Decision]:
    """The best label of every token."""
    for row, expected in zip(logits, reference, strict=True):
        yield from decide_best(figure, item, row, expected)


TOKEN_CLASSIFICATION = RowHead(
    head=Head.TOKEN_CLASSIFICATION,
    rows=Rows.ALL,
    figure="tagging",
    ask="tag",
    name="tag",
    output="tag_logits",
    size="labels",
    decide=_decide,
)
