"""Drawing pairs and masking them: what BERT's two tasks are made of."""

from __future__ import annotations

import numpy as np
import pytest
from corpus import Corpus
from hypothesis import given
from hypothesis import strategies as st
from pairs import (
    NOT_MASKED,
    Pair,
    SpecialTokens,
    collate,
    cut_by_tokens,
    draw_batches,
    draw_pair,
    mask_tokens,
)

SPECIAL = SpecialTokens(cls=2, sep=3, mask=4, pad=0, unk=1, vocabulary_size=1000)


def make_corpus(articles: list[list[int]]) -> Corpus:
    """Articles as lists of sentence lengths; a token's id is its place, so that texts tell where they were cut out."""
    lengths = [length for article in articles for length in article]
    return Corpus(
        tokens=np.arange(sum(lengths)),
        sentence_bounds=np.cumsum([0, *lengths]),
        article_bounds=np.cumsum([0, *map(len, articles)]),
    )


corpora = st.lists(
    st.lists(st.integers(1, 60), min_size=2, max_size=12), min_size=2, max_size=6
).map(make_corpus)  # fmt: skip
draws = given(corpus=corpora, length=st.integers(16, 128), single=st.booleans(), seed=st.integers(0, 2**32))


@draws
def test_pairs_fit(corpus: Corpus, length: int, single: bool, seed: int) -> None:
    """A pair never exceeds its length, and neither side is empty."""
    pair = draw_pair(corpus, length, np.random.default_rng(seed), single)
    assert pair.length <= length
    assert len(pair.first) > 0
    assert len(pair.second) > 0


@draws
def test_texts_are_consecutive_sentences(corpus: Corpus, length: int, single: bool, seed: int) -> None:
    """Each text starts with a sentence and runs on within one article; a single one stays within its sentence."""
    pair = draw_pair(corpus, length, np.random.default_rng(seed), single)
    for text in (pair.first, pair.second):
        assert text[0] in corpus.sentence_bounds
        assert np.array_equal(text, np.arange(text[0], text[0] + len(text)))
        assert article_of(corpus, text[0]) == article_of(corpus, text[-1])
        if single:
            assert sentence_of(corpus, text[0]) == sentence_of(corpus, text[-1])


@draws
def test_second_text_is_what_the_label_says(corpus: Corpus, length: int, single: bool, seed: int) -> None:
    """A true second text begins with the sentence after the first's last; a false one comes from another article."""
    pair = draw_pair(corpus, length, np.random.default_rng(seed), single)
    if pair.is_next:
        assert sentence_of(corpus, pair.second[0]) > sentence_of(corpus, pair.first[-1])
        assert article_of(corpus, pair.second[0]) == article_of(corpus, pair.first[0])
    else:
        assert article_of(corpus, pair.second[0]) != article_of(corpus, pair.first[0])


def test_untrimmed_true_pairs_have_no_gap() -> None:
    """Where all fits, the second text begins at the very token after the first's last."""
    corpus = make_corpus([[5] * 20, [5] * 20])
    rng = np.random.default_rng(0)
    pairs = [draw_pair(corpus, 128, rng, single) for _ in range(100) for single in (True, False)]
    assert all(pair.second[0] == pair.first[-1] + 1 for pair in pairs if pair.is_next)


@pytest.mark.parametrize("single", [True, False], ids=["single sentences", "runs"])
def test_half_of_the_pairs_are_true(single: bool) -> None:
    """Of four thousand seeded draws, 47 to 53 % (3.8 standard deviations)."""
    corpus = make_corpus([[10] * 8 for _ in range(20)])
    rng = np.random.default_rng(1)
    share = np.mean([draw_pair(corpus, 64, rng, single).is_next for _ in range(4000)])
    assert 0.47 < share < 0.53


def test_masking_shares() -> None:
    """15 % of the tokens are asked for; of these 80 % are masks, 10 % other tokens, 10 % unchanged."""
    ids = np.random.default_rng(0).integers(5, 1000, (200, 1000))
    masked, labels = mask_tokens(ids, SPECIAL, np.random.default_rng(1))
    asked = labels != NOT_MASKED
    assert asked.mean() == pytest.approx(0.15, abs=0.003)
    assert (masked[asked] == SPECIAL.mask).mean() == pytest.approx(0.8, abs=0.01)
    assert (masked[asked] == ids[asked]).mean() == pytest.approx(0.1, abs=0.01)
    assert np.array_equal(labels[asked], ids[asked])
    assert np.array_equal(masked[~asked], ids[~asked])


def test_special_and_unknown_tokens_are_never_masked() -> None:
    """Neither changed nor asked for."""
    ids = np.tile([SPECIAL.cls, SPECIAL.sep, SPECIAL.pad, SPECIAL.unk], (100, 100))
    masked, labels = mask_tokens(ids, SPECIAL, np.random.default_rng(0))
    assert np.array_equal(masked, ids)
    assert (labels == NOT_MASKED).all()


def test_masks_are_drawn_anew() -> None:
    """The same text gets other masks the next time."""
    ids = np.full((1, 200), 7)
    rng = np.random.default_rng(0)
    assert not np.array_equal(mask_tokens(ids, SPECIAL, rng)[1], mask_tokens(ids, SPECIAL, rng)[1])


def test_batches_are_laid_out_as_bert_reads_them() -> None:
    """[CLS] first [SEP] second [SEP], segments 0 and 1, padding outside attention; label 0 means next."""
    pairs = [Pair(np.array([10, 11]), np.array([12]), True), Pair(np.array([13]), np.array([14, 15, 16]), False)]
    batch = collate(pairs, SPECIAL, np.random.default_rng(0))
    original = np.where(batch.labels != NOT_MASKED, batch.labels, batch.input_ids)
    assert original.tolist() == [[2, 10, 11, 3, 12, 3, 0], [2, 13, 3, 14, 15, 16, 3]]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]]
    assert batch.next_sentence_label.tolist() == [0, 1]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=50), st.integers(50, 200))
def test_cutting_into_batches_loses_nothing(lengths: list[int], budget: int) -> None:
    """Every pair is in one batch, in order, and no batch exceeds its tokens after padding."""
    pairs = [Pair(np.zeros(length - 1), np.zeros(1), True) for length in sorted(lengths)]
    batches = cut_by_tokens(pairs, budget)
    assert [pair for batch in batches for pair in batch] == pairs
    assert all(len(batch) * batch[-1].length <= budget for batch in batches)


def test_drawn_batches_keep_to_the_budget() -> None:
    """Every batch has at most the tokens asked for, padding included."""
    shapes = draw_shapes(progress=0.9)
    assert all(rows * length <= 1024 for rows, length in shapes)


def test_training_begins_with_short_texts() -> None:
    """Nothing beyond 32 tokens at first; up to 512 later."""
    assert max(length for _, length in draw_shapes(progress=0.0)) <= 32
    assert 256 < max(length for _, length in draw_shapes(progress=0.9)) <= 512


def test_no_text_exceeds_the_models_limit() -> None:
    """A model of 64 positions gets no longer texts, however far training is."""
    assert max(length for _, length in draw_shapes(progress=0.9, longest_tokens=64)) <= 64


def draw_shapes(progress: float, longest_tokens: int = 512) -> list[tuple[int, ...]]:
    corpus = make_corpus([[12] * 60 for _ in range(20)])
    batches = draw_batches(corpus, SPECIAL, 1024, longest_tokens, np.random.default_rng(0), progress=lambda: progress)
    return [next(batches).input_ids.shape for _ in range(200)]


def sentence_of(corpus: Corpus, token: int) -> int:
    return int(np.searchsorted(corpus.sentence_bounds, token, side="right"))


def article_of(corpus: Corpus, token: int) -> int:
    return int(np.searchsorted(corpus.article_bounds, sentence_of(corpus, token) - 1, side="right"))
