"""Sequence classification: a logit a label over the first token's row."""

from __future__ import annotations

from collections.abc import Iterator

from bertserve.bundle import Head, ProblemType
from bertserve.engine.items import Float32s, Item
from bertserve.heads.comparison import Decision, decide_best, decide_each
from bertserve.heads.contract import Rows
from bertserve.heads.row_head import RowHead


def _decide(
    figure: str, item: Item, logits: Float32s, reference: Float32s, problem_type: ProblemType | None
) -> Iterator[Decision]:
    """The best label; whether each label holds, where a text can have several; a number decides nothing."""
    if problem_type is ProblemType.REGRESSION:
        return
    decide = decide_each if problem_type is ProblemType.MULTI_LABEL else decide_best
    yield from decide(figure, item, logits, reference)


SEQUENCE_CLASSIFICATION = RowHead(
    head=Head.SEQUENCE_CLASSIFICATION,
    rows=Rows.FIRST,
    figure="classification",
    ask="classify",
    name="class",
    output="class_logits",
    size="labels",
    decide=_decide,
)
