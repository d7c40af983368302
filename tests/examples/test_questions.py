"""Questions as texts: what is hidden, what stays, and that the tokenizer reads them as meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import (
    MASK,
    EvaluationText,
    MaskedText,
    Passage,
    PassagePair,
    Token,
    Tokenize,
    draw_text_pairs,
    hide_each_token,
    hide_words,
    keep_as_meant,
    tokenize_text,
)
from tokenizers import Tokenizer

LONGEST_TOKENS = 48
LONGEST_WORD_TOKENS = 6


@pytest.fixture(scope="session")
def tokenize(tokenizer: Tokenizer) -> Tokenize:
    def run(texts: Sequence[str]) -> list[list[Token]]:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            [Token(token, start, end) for token, (start, end) in zip(e.tokens, e.offsets, strict=True)]
            for e in encodings
        ]

    return run


@pytest.fixture(scope="session")
def text(articles: list[list[str]], tokenize: Tokenize) -> EvaluationText:
    """With words of several pieces ("zebras"), accents, and an unknown word in it."""
    odd = ["Zebras jumped, and the caf\u00e9 was [UNK] today. The [UNK] followed. He said: \u201cno\u201d (twice)."]
    return tokenize_text([*articles, odd, odd], tokenize)


def passage(text: str, tokenize: Tokenize) -> Passage:
    return Passage(text, tuple(tokenize([text])[0]))


@given(seed=st.integers(0, 2**32), single=st.booleans(), whole_words=st.booleans())
def test_masked_texts_read_as_meant(
    text: EvaluationText, tokenize: Tokenize, seed: int, single: bool, whole_words: bool
) -> None:
    """The tokenizer gives the original tokens, with a mask for each answer, whatever is hidden."""
    rng = np.random.default_rng(seed)
    (pair,) = draw_text_pairs(text, 1, LONGEST_TOKENS, rng, single=single)
    question = hide_words(pair, rng, whole_words=whole_words)
    assert keep_as_meant([question], tokenize) == [question]
    assert question.complete == tuple(token.text for token in (*pair.first.tokens, *pair.second.tokens))


@given(seed=st.integers(0, 2**32), whole_words=st.booleans())
def test_about_fifteen_percent_are_hidden(text: EvaluationText, seed: int, whole_words: bool) -> None:
    """At least 15 % of the tokens, rounded, and at most one word more; never [UNK]."""
    rng = np.random.default_rng(seed)
    (pair,) = draw_text_pairs(text, 1, LONGEST_TOKENS, rng, single=False)
    question = hide_words(pair, rng, whole_words=whole_words)
    wanted = max(1, round(0.15 * (len(question.complete) - question.complete.count("[UNK]"))))
    assert wanted <= len(question.answers) < wanted + LONGEST_WORD_TOKENS
    assert "[UNK]" not in question.answers


@given(seed=st.integers(0, 2**32))
def test_whole_words_are_hidden_whole(tokenize: Tokenize, seed: int) -> None:
    """Both masks of "zebras"-like words or none of them: a hidden word leaves no piece behind."""
    sides = [passage(text, tokenize) for text in ("zebras and oxen walking", "quickest jumped kings")]
    question = hide_words(PassagePair(*sides, True), np.random.default_rng(seed), whole_words=True)
    remaining = f"{question.text} {question.text_pair}".replace(MASK, " ").split()
    assert set(remaining) <= {"zebras", "and", "oxen", "walking", "quickest", "jumped", "kings"}


def test_a_hidden_piece_takes_the_rest_of_its_word(tokenize: Tokenize) -> None:
    """Text cannot hide the start of a word and show its end; each token's own answer comes first."""
    questions = hide_each_token(passage("He walked", tokenize))
    assert [(q.text, q.answers) for q in questions] == [
        ("[MASK] walked", ("he",)),
        ("He [MASK][MASK]", ("walk", "##ed")),
        ("He walk[MASK]", ("##ed",)),
    ]


def test_unknown_tokens_are_not_asked(tokenize: Tokenize) -> None:
    """[UNK] stays in the text, and no question is about it."""
    assert [q.answers for q in hide_each_token(passage("The [UNK] sat", tokenize))] == [("the",), ("sat",)]


def test_texts_that_read_otherwise_are_left_out(tokenize: Tokenize) -> None:
    """A mask that leaves a word's end behind changes the tokens, and the question is dropped."""
    broken = MaskedText(text="He [MASK]ed", text_pair=None, answers=("walk",), complete=("he", "walk", "##ed"))
    sound = MaskedText(text="He walk[MASK]", text_pair=None, answers=("##ed",), complete=("he", "walk", "##ed"))
    assert keep_as_meant([broken, sound], tokenize) == [sound]


def test_offsets_hold_across_sentences(text: EvaluationText, tokenize: Tokenize) -> None:
    """The tokens of a sentence cut out of the whole are those of its own text, offsets included."""
    for index in range(text.sentence_count):
        sentence = text.sentence(index)
        assert list(sentence.tokens) == tokenize([sentence.text])[0]


def test_same_seed_same_questions(text: EvaluationText) -> None:
    """Two sources that are asked with one seed are asked the same."""
    first, second = (draw_text_pairs(text, 20, LONGEST_TOKENS, np.random.default_rng(5), single=False) for _ in "ab")
    assert first == second
