"""The texts that are measured."""

from __future__ import annotations

from collections import Counter
from statistics import mean

import pytest
from bertbench.graph.shapes import SENTENCES, SHAPES, Shape, cut_batches, equal_lengths, fit_shapes, mixed_lengths
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.export


def test_sentences_have_about_thirty_tokens() -> None:
    """The mean of the distribution, from few texts, with lengths on both sides of it."""
    assert abs(mean(SENTENCES.lengths) - 30) < 1
    assert min(SENTENCES.lengths) < 15
    assert max(SENTENCES.lengths) > 60


def test_the_wide_mix_reaches_the_longest_text() -> None:
    """From a few tokens to 512."""
    wide = SHAPES[-1]
    assert max(wide.lengths) == 512
    assert min(wide.lengths) < 20


def test_mixed_lengths_are_the_same_every_time() -> None:
    """Figures of different days are about the same texts."""
    assert mixed_lengths("", 40, 30, 0.5, 512).lengths == SENTENCES.lengths


@given(st.lists(st.integers(1, 512), min_size=1, max_size=60), st.integers(1, 512))
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    """Nothing is lost; only a text that is longer than the budget exceeds it, alone."""
    batches = cut_batches(Shape(name="", lengths=tuple(lengths)), budget)
    assert Counter(length for batch in batches for length in batch) == Counter(lengths)
    assert all(sum(batch) <= budget or len(batch) == 1 for batch in batches)


def test_a_shape_that_exceeds_the_model_is_left_out_and_a_mix_shortened() -> None:
    """Equal texts are what their name says, or are not measured."""
    mix = Shape(name="mix", lengths=(10, 100))
    fitting = fit_shapes([equal_lengths(1, 16), equal_lengths(1, 128), mix], 64)
    assert [(shape.name, shape.lengths) for shape in fitting] == [("1×16", (16,)), ("mix", (10, 64))]
