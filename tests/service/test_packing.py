"""The packed layout: nothing lost, nothing twice, and every item gets its own rows back."""

from __future__ import annotations

import numpy as np
from bertserve.engine.items import Item, Wanted
from bertserve.engine.packing import pack, unpack
from hypothesis import given
from hypothesis import strategies as st

LABELS, HIDDEN = 3, 2


@st.composite
def items(draw: st.DrawFn) -> Item:
    length = draw(st.integers(1, 12))
    masks = draw(st.lists(st.integers(0, length - 1), unique=True, max_size=3))
    wanted = Wanted(
        layers=tuple(draw(st.lists(st.integers(0, 2), unique=True))),
        pooler=draw(st.booleans()),
        mask_positions=tuple(sorted(masks)),
        top_k=draw(st.integers(0, 4)),
        target_ids=tuple(draw(st.lists(st.integers(0, 99), max_size=3))),
        next_sentence=draw(st.booleans()),
        classify=draw(st.booleans()),
        tag=draw(st.booleans()),
    )
    ids = np.array(draw(st.lists(st.integers(0, 99), min_size=length, max_size=length)), dtype=np.int64)
    return Item(input_ids=ids, token_type_ids=ids % 2, wanted=wanted)


batches = st.lists(items(), min_size=1, max_size=12)


@given(batches)
def test_every_token_is_packed_once_at_its_start(batch: list[Item]) -> None:
    """Each item's tokens stand together from its start, and the row holds nothing else."""
    packed = pack(batch, position_offset=0)
    for item, start in zip(batch, packed.starts, strict=True):
        rows = slice(start, start + item.length)
        assert packed.feeds["input_ids"][rows].tolist() == item.input_ids.tolist()
        assert packed.feeds["token_type_ids"][rows].tolist() == item.token_type_ids.tolist()
        assert packed.feeds["position_ids"][rows].tolist() == list(range(item.length))
    assert packed.token_count == sum(item.length for item in batch)


@given(batches)
def test_groups_cover_the_row_with_equal_lengths(batch: list[Item]) -> None:
    """Groups lie end to end, each of `count` texts of `length` tokens, one group a length."""
    feeds = pack(batch, position_offset=0).feeds
    counts, lengths, rest = feeds["group_shapes"].T
    assert np.diff(feeds["group_starts"]).tolist() == (counts * lengths).tolist()
    assert sorted({item.length for item in batch}) == lengths.tolist()
    assert set(rest.tolist()) == {-1}
    assert feeds["group_starts"][-1] == sum(item.length for item in batch)


@given(batches, st.integers(0, 2))
def test_positions_begin_at_the_offset(batch: list[Item], offset: int) -> None:
    """Families whose first position is not zero get theirs; there a padding token in a text counts for nothing."""
    padding = offset - 1
    packed = pack(batch, position_offset=offset)
    for item, start in zip(batch, packed.starts, strict=True):
        count, expected = 0, []
        for token in item.input_ids.tolist():
            count += token != padding
            expected.append(padding if token == padding else padding + count)
        assert packed.feeds["position_ids"][start : start + item.length].tolist() == expected


@given(batches)
def test_unpack_hands_each_item_what_it_wanted(batch: list[Item]) -> None:
    """Outputs that name their own row, mask and item come back to the item that asked."""
    packed = pack(batch, position_offset=0)
    feeds = packed.feeds
    rows = np.repeat(np.arange(packed.token_count, dtype=np.float32)[:, None], HIDDEN, axis=1)
    outputs = {f"hidden_{layer}": rows + 1000 * layer for layer in range(3)}
    k = int(feeds["top_k"][0])
    outputs["mask_top_ids"] = np.repeat(feeds["mask_rows"][:, None], k, axis=1)
    outputs["mask_top_log_probs"] = outputs["mask_top_ids"].astype(np.float32)
    outputs["target_log_probs"] = feeds["target_ids"] + 1000 * feeds["mask_rows"][feeds["target_masks"]]
    outputs["pooled"] = rows[feeds["pooler_rows"]]
    outputs["next_sentence_logits"] = rows[feeds["next_sentence_rows"]]
    outputs["class_logits"] = np.repeat(feeds["class_rows"][:, None], LABELS, axis=1)
    outputs["tag_logits"] = np.repeat(feeds["tag_rows"][:, None], LABELS, axis=1)
    for item, start, got in zip(batch, packed.starts, unpack(packed, outputs), strict=True):
        wanted, mask_rows = item.wanted, [start + position for position in item.wanted.mask_positions]
        assert set(got.layers) == set(wanted.layers)
        for layer, vectors in got.layers.items():
            assert vectors[:, 0].tolist() == [1000 * layer + start + place for place in range(item.length)]
        assert (got.pooled is not None) == wanted.pooler
        assert (got.next_sentence_logits is not None) == wanted.next_sentence
        assert (got.class_logits is not None) == wanted.classify
        for row in (got.pooled, got.next_sentence_logits, got.class_logits):
            assert row is None or row.tolist() == [start] * len(row)
        assert (got.tag_logits is not None) == wanted.tag
        if got.tag_logits is not None:
            assert got.tag_logits.tolist() == [[start + place] * LABELS for place in range(item.length)]
        if mask_rows:
            assert got.mask_top_ids.tolist() == [[row] * wanted.top_k for row in mask_rows]
            assert got.target_log_probabilities.tolist() == [
                [1000 * row + target for target in wanted.target_ids] for row in mask_rows
            ]


@given(batches)
def test_only_what_is_wanted_is_fetched(batch: list[Item]) -> None:
    """An output that no item wants is not fetched, and no row is fed to its head."""
    packed = pack(batch, position_offset=0)
    wants = [item.wanted for item in batch]
    assert ("pooled" in packed.fetches) == any(want.pooler for want in wants)
    assert ("class_logits" in packed.fetches) == any(want.classify for want in wants)
    assert ("tag_logits" in packed.fetches) == any(want.tag for want in wants)
    assert ("mask_top_ids" in packed.fetches) == any(want.mask_positions for want in wants)
    assert len(packed.feeds["next_sentence_rows"]) == sum(want.next_sentence for want in wants)
    assert len(packed.feeds["tag_rows"]) == sum(item.length for item in batch if item.wanted.tag)
    assert len(packed.feeds["mask_rows"]) == sum(len(want.mask_positions) for want in wants)
