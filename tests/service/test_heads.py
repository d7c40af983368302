"""The heads as their files state them: what is fed, fetched and handed back follows from that alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from bertserve.bundle import Head, read_bundle
from bertserve.engine.items import Item, ItemOutputs, Wanted
from bertserve.engine.ort.session import Engine
from bertserve.engine.packing import pack
from bertserve.heads.contract import HeadKind, Rows
from bertserve.heads.registry import HEADS
from bertserve.heads.row_head import RowHead
from make_bundles import BUNDLES

MASKS = {"mask_positions": (1, 2), "target_ids": (3, 4, 5), "top_k": 2}
ROW_HEADS = [kind for kind in HEADS.values() if isinstance(kind, RowHead)]
EVERYTHING = Wanted(layers=(0, 2), **MASKS, **{kind.ask: True for kind in ROW_HEADS})
# Over whole texts, as no head of today is.
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
    """Else one would read what the other was fed."""
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
    """And everything of one that somebody asks."""
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
    """However many rows it read."""
    unpacked = WHOLE_TEXTS.unpack(make_item(4), 0, {}, lambda name, count: np.full((count, 2), len(name)))
    assert unpacked["pooled"].tolist() == [6, 6]


@pytest.mark.parametrize("name", ["pretraining", "classifier", "tagger"])
def test_a_head_knows_how_many_numbers_it_gives(name: str) -> None:
    """Before anything has run, as many as the engine then hands back."""
    engine = Engine(read_bundle(BUNDLES / name), threads=1)
    model = engine.bundle.model
    asked = {kind.ask: kind.head in model.heads for kind in ROW_HEADS}
    masks = MASKS if Head.MASKED_LM in model.heads else {}
    item = make_item(7, Wanted(layers=(0, 2), **masks, **asked))
    counted = sum(kind.count_numbers(model, item) for kind in HEADS.values())
    assert counted == sum(array.size for array in arrays_of(engine.run_items([item])[0]))


def arrays_of(outputs: ItemOutputs) -> list[np.ndarray]:
    values = [getattr(outputs, field.name) for field in fields(outputs) if field.name != "layers"]
    return [*outputs.layers.values(), *(value for value in values if value is not None)]
