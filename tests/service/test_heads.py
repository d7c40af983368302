"""The heads as their files state them: what is fed, fetched and handed back follows from that alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from bertserve.bundle import Head, read_bundle
from bertserve.engine.golden import read_golden
from bertserve.engine.items import Item, Wanted
from bertserve.engine.packing import pack
from bertserve.heads.contract import HeadKind, Rows
from bertserve.heads.registry import HEADS
from bertserve.heads.row_head import RowHead
from make_bundles import BUNDLES

MASKS = {"mask_positions": (1, 2), "target_ids": (3, 4, 5), "top_k": 2}
ROW_HEADS = [kind for kind in HEADS.values() if isinstance(kind, RowHead)]
EVERYTHING = Wanted(layers=(0, 2), **MASKS, **{kind.ask: True for kind in ROW_HEADS})
# No head of today reads whole texts.
WHOLE_TEXTS = RowHead(
    head=Head.POOLER, rows=Rows.SEGMENTS, figure="whole", ask="pooler", name="whole", output="pooled", size="hidden"
)


def make_item(length: int, wanted: Wanted = EVERYTHING) -> Item:
    ids = np.arange(5, 5 + length, dtype=np.int64)
    return Item(input_ids=ids, token_type_ids=ids * 0, wanted=wanted)


def test_every_head_of_the_manifest_is_registered_in_its_order() -> None:
    """Golden files and reports name outputs in that order."""
    assert list(HEADS) == list(Head)


def test_no_two_heads_share_an_input_or_output() -> None:
    """A shared input would feed one head with the rows of the other."""
    names = Counter(port.name for kind in HEADS.values() for port in (*kind.inputs, *kind.outputs))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("kind", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("asking", [[(make_item(4), 0)], []], ids=["asked", "not asked"])
def test_every_input_is_fed_whether_asked_or_not(kind: HeadKind, asking: list[tuple[Item, int]]) -> None:
    """The graph needs them all; a head that nobody asks gets no rows."""
    feeds = kind.feed(asking)
    assert set(feeds) == {port.name for port in kind.inputs}
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}
    assert any(len(array) for name, array in feeds.items() if name != "top_k") == bool(asking)


@pytest.mark.parametrize("kind", HEADS.values(), ids=HEADS)
def test_nothing_is_fetched_of_a_head_that_nobody_asks(kind: HeadKind) -> None:
    """A head that one item asks gives all of its outputs."""
    outputs = {port.name for port in kind.outputs} or {"hidden_0", "hidden_2"}
    nobody, somebody = [make_item(3, Wanted())], [make_item(3, Wanted()), make_item(4)]
    assert outputs & set(pack(nobody, position_offset=0).fetches) == set()
    assert outputs <= set(pack(somebody, position_offset=0).fetches)


def test_a_head_over_whole_texts_learns_which_rows_are_whose() -> None:
    """Every row of the texts that ask, the number of its text, and each text's first row."""
    feeds = WHOLE_TEXTS.feed([(make_item(2), 3), (make_item(3), 0)])
    assert {name: array.tolist() for name, array in feeds.items()} == {
        "whole_rows": [3, 4, 0, 1, 2],
        "whole_texts": [0, 0, 1, 1, 1],
        "whole_firsts": [3, 0],
    }
    assert list(feeds) == [port.name for port in WHOLE_TEXTS.inputs]


def test_a_head_over_whole_texts_gives_each_one_row() -> None:
    """The number of rows that it reads makes no difference."""
    unpacked = WHOLE_TEXTS.unpack(make_item(4), 0, {}, lambda name, count: np.full((count, 2), len(name)))
    assert unpacked["pooled"].tolist() == [6, 6]


@pytest.mark.parametrize("name", ["pretraining", "classifier", "tagger"])
def test_a_head_knows_how_many_numbers_it_gives(name: str) -> None:
    """As many as were recorded at export, and the ids of the likeliest words, which golden files leave out."""
    bundle = read_bundle(BUNDLES / name)
    for case in read_golden(bundle.golden_path):
        counted = sum(kind.count_numbers(bundle.model, case.item) for kind in HEADS.values())
        ids = len(case.item.wanted.mask_positions) * case.item.wanted.top_k
        assert counted == sum(array.size for array in case.own.values()) + ids
