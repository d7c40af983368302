"""A text's outputs are bit-identical alone and in any batch, at any place, with any neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bertserve.bundle import read_bundle
from bertserve.engine.contract import Engine
from bertserve.engine.golden import comparable_outputs
from bertserve.engine.items import Item, Wanted
from bertserve.engine.opening import open_engine
from checkpoints import TINY, write_checkpoint
from family_checkpoints import SAMPLES, write_family_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import ALL_HEADS, Export

pytestmark = pytest.mark.export

# Odd widths leave remainders in every vector loop, at places that shift with the batch.
SHAPES: dict[str, dict[str, Any]] = {
    "odd widths": {"hidden_size": 27, "num_attention_heads": 3, "intermediate_size": 37},
    "odd widths, relu": {"hidden_size": 21, "num_attention_heads": 1, "intermediate_size": 53, "hidden_act": "relu"},
    "odd widths, tanh gelu": {"hidden_size": 33, "num_attention_heads": 3, "hidden_act": "gelu_new"},
    "odd widths, silu": {"hidden_size": 39, "num_attention_heads": 3, "intermediate_size": 71, "hidden_act": "silu"},
    "wide": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "num_hidden_layers": 1},
}


def draw_item(length: int, seed: int) -> Item:
    rng = np.random.default_rng(seed)
    wanted = Wanted(
        layers=(0, 1, 2),
        pooler=True,
        mask_positions=tuple(sorted(rng.choice(length, size=min(length, 2), replace=False).tolist())),
        top_k=3,
        target_ids=(5, 400),
        next_sentence=True,
        classify=True,
    )
    ids = rng.integers(0, TINY["vocab_size"], length)
    return Item(input_ids=ids, token_type_ids=rng.integers(0, 2, length), wanted=wanted)


items = st.builds(draw_item, st.integers(1, 70), st.integers(0, 2**32 - 1))
neighbours = st.lists(items, max_size=12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(item=items, before=neighbours, after=neighbours)
def test_neighbours_never_change_a_result(
    item: Item, before: list[Item], after: list[Item], full_engine: Engine
) -> None:
    """Every output of every head, compared bit by bit."""
    assert_same(full_engine, item, before, after)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_neighbours_never_change_a_result_whatever_the_widths(
    config: dict[str, Any], precision: str, tmp_path: Path, export: Export
) -> None:
    """The same for widths that divide nothing, for every activation, with one thread and with two."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ALL_HEADS, **{"num_hidden_layers": 2, **config})
    bundle = export(checkpoint, precision=precision, allow_accuracy_loss=precision == "int8")
    rng = np.random.default_rng(7)
    layers = tuple(range(bundle.model.layer_count + 1))
    for engine in (open_engine(bundle, threads=1), open_engine(bundle, threads=2)):
        for trial in range(12):
            drawn = [draw_item(int(length), trial * 100 + index) for index, length in enumerate(rng.integers(1, 40, 9))]
            drawn = [
                Item(
                    input_ids=item.input_ids,
                    token_type_ids=item.token_type_ids,
                    wanted=Wanted(**{**wanted_fields(item.wanted), "layers": layers}),
                )
                for item in drawn
            ]
            place = trial % len(drawn)
            assert_same(engine, drawn[place], drawn[:place], drawn[place + 1 :])


@pytest.mark.parametrize("family", SAMPLES)
def test_neighbours_never_change_a_result_whatever_the_family(family: str, tmp_path: Path, export: Export) -> None:
    """The same for embeddings with a projection, heads with other activations and positions that begin elsewhere."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", family, ("masked_lm", "sequence_classification"))
    engine = open_engine(export(checkpoint), threads=1)
    rng = np.random.default_rng(11)
    for trial in range(12):
        drawn = [
            without_heads_of_pairs(draw_item(int(length), trial * 100 + index))
            for index, length in enumerate(rng.integers(1, 40, 9))
        ]
        place = trial % len(drawn)
        assert_same(engine, drawn[place], drawn[:place], drawn[place + 1 :])


def test_threads_do_not_change_a_result(full_export: tuple[Path, object], full_engine: Engine) -> None:
    """A lane of two threads answers as one of one thread does."""
    wide = open_engine(read_bundle(full_export[0]), threads=2)
    batch = [draw_item(length, length) for length in (3, 17, 17, 64)]
    for narrow_outputs, wide_outputs in zip(full_engine.run_items(batch), wide.run_items(batch), strict=True):
        expected = comparable_outputs(narrow_outputs)
        for name, values in comparable_outputs(wide_outputs).items():
            np.testing.assert_array_equal(values, expected[name], strict=True)


def without_heads_of_pairs(item: Item) -> Item:
    """What a family without pooler, segments and next sentence gives."""
    wanted = Wanted(**{**wanted_fields(item.wanted), "pooler": False, "next_sentence": False})
    zeros = np.zeros_like(item.token_type_ids)
    return Item(input_ids=item.input_ids % 400, token_type_ids=zeros, wanted=wanted)


def wanted_fields(wanted: Wanted) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in Wanted.__slots__}


def assert_same(engine: Engine, item: Item, before: list[Item], after: list[Item]) -> None:
    alone = engine.run_items([item])[0]
    together = engine.run_items([*before, item, *after])[len(before)]
    np.testing.assert_array_equal(alone.mask_top_ids, together.mask_top_ids)
    expected = comparable_outputs(alone)
    for name, values in comparable_outputs(together).items():
        np.testing.assert_array_equal(values, expected[name], strict=True)
