"""Next sentence: two logits over the first token's row, label 0 if the second text follows the first."""

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
    """The verdict on the pair."""
    yield from decide_best(figure, item, logits, reference)


NEXT_SENTENCE = RowHead(
    head=Head.NEXT_SENTENCE,
    rows=Rows.FIRST,
    figure="next_sentence",
    ask="next_sentence",
    name="next_sentence",
    output="next_sentence_logits",
    size=2,
    decide=_decide,
)
