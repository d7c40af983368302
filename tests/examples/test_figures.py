"""Counting: figures of guessers whose answers are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from figures import MaskedFigures, count_masked, count_next, count_perplexity
from questions import MaskedText, Passage, PassagePair
from sources import Guess, Unigram


class LengthJudge:
    """Believes that what is shorter follows. Fills nothing."""

    def fill(self, questions: Sequence[MaskedText]) -> list[list[Guess]]:
        raise NotImplementedError

    def score_next(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [0.9 if len(second) < len(first) else 0.1 for first, second in pairs]


def ask(*answers: str) -> MaskedText:
    return MaskedText(text="", text_pair=None, answers=answers, complete=answers)


def follow(first: str, second: str, *, is_next: bool) -> PassagePair:
    return PassagePair(Passage(first, ()), Passage(second, ()), is_next)


def test_unigram_figures() -> None:
    """With counts a 6, b 4, c 3, d 2, e 1, f 1: `a` is always first, the five first are a to e."""
    questions = [ask("a", "b"), ask("f"), ask("a", "g")]
    unigram = Unigram("aaaaaabbbbcccddef")
    # Add-one smoothing: 17 tokens seen, 6 kinds, one share for those never seen.
    probabilities = [7 / 24, 5 / 24, 2 / 24, 7 / 24, 1 / 24]
    assert count_masked(unigram.fill(questions), [question.answers for question in questions]) == MaskedFigures(
        top_1=2 / 5,
        top_5=3 / 5,
        perplexity=pytest.approx(math.exp(-sum(map(math.log, probabilities)) / 5)),
        masks=5,
    )


def test_unigram_probabilities_sum_to_one() -> None:
    """Over all tokens seen, and the share for those never seen."""
    questions = [ask(token) for token in ("a", "b", "never seen")]
    guesses = Unigram("aab").fill(questions)
    assert sum(math.exp(guess.answer_log_probability) for (guess,) in guesses) == pytest.approx(1)


def test_next_sentence_accuracy() -> None:
    """Three of four right."""
    pairs = [
        follow("long text", "short", is_next=True),
        follow("short", "a long text", is_next=False),
        follow("short", "another long text", is_next=False),
        follow("short", "but true", is_next=True),
    ]
    figures = count_next(LengthJudge(), pairs)
    assert (figures.accuracy, figures.pairs) == (0.75, 4)


def test_pseudo_perplexity_counts_first_masks() -> None:
    """The masks that only hide the rest of a word do not count."""
    certain, even, never = (Guess((), math.log(p)) for p in (1.0, 0.25, 1e-9))
    figures = count_perplexity([[certain, never], [even]])
    assert (figures.pseudo_perplexity, figures.tokens) == (pytest.approx(2.0), 2)
