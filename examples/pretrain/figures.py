"""The figures: how often a guesser names a hidden word, how surprised it is, how often it tells what follows.

Draws the questions once and puts the same ones to every guesser; knows nothing of how they are answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from questions import (
    EvaluationText,
    MaskedText,
    PassagePair,
    Tokenize,
    draw_text_pairs,
    hide_each_token,
    hide_words,
    keep_as_meant,
)
from sources import Guess, Guesser


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much to ask: pairs whose words are hidden, pairs to tell apart, sentences for pseudo-perplexity; the longest
    pair in tokens, special tokens included."""

    masked_pairs: int = 300
    next_pairs: int = 800
    sentences: int = 60
    longest_tokens: int = 128


@dataclass(frozen=True, slots=True)
class Questions:
    """By name of the figure. discarded: masked texts left out because the tokenizer reads them otherwise than meant."""

    masked: dict[str, list[MaskedText]]
    next_sentence: dict[str, list[PassagePair]]
    sentences: list[MaskedText]
    discarded: int


@dataclass(frozen=True, slots=True)
class MaskedFigures:
    """Shares of masks where the hidden token is the first, or among the first five, guesses; exp of the mean negative
    log-probability of the hidden token."""

    top_1: float
    top_5: float
    perplexity: float
    masks: int


@dataclass(frozen=True, slots=True)
class NextSentenceFigures:
    accuracy: float
    pairs: int


@dataclass(frozen=True, slots=True)
class PerplexityFigures:
    """Pseudo-perplexity per token (Salazar et al. 2020, arXiv:1910.14659, with the rest of a word hidden as well)."""

    pseudo_perplexity: float
    tokens: int


Figures = MaskedFigures | NextSentenceFigures | PerplexityFigures


def draw_questions(text: EvaluationText, sizes: Sizes, seed: int, tokenize: Tokenize) -> Questions:
    """The same questions for the same text, sizes and seed. Runs of sentences, as in training, and single sentences."""
    rng = np.random.default_rng(seed)
    masked, next_sentence = {}, {}
    discarded = 0
    for form in ("runs", "single sentences"):
        count = max(sizes.masked_pairs, sizes.next_pairs)
        pairs = draw_text_pairs(text, count, sizes.longest_tokens, rng, single=form != "runs")
        next_sentence[form] = pairs[: sizes.next_pairs]
        for kind in ("tokens", "whole words"):
            drawn = [hide_words(pair, rng, whole_words=kind != "tokens") for pair in pairs[: sizes.masked_pairs]]
            masked[f"{kind}, {form}"] = keep_as_meant(drawn, tokenize)
            discarded += len(drawn) - len(masked[f"{kind}, {form}"])
    chosen = rng.choice(text.sentence_count, min(sizes.sentences, text.sentence_count), replace=False)
    each = [question for index in chosen for question in hide_each_token(text.sentence(int(index)))]
    sentences = keep_as_meant(each, tokenize)
    return Questions(masked, next_sentence, sentences, discarded + len(each) - len(sentences))


def measure(guesser: Guesser, questions: Questions) -> dict[str, Figures]:
    """All figures of one guesser, by name."""
    figures: dict[str, Figures] = {}
    for name, masked in questions.masked.items():
        figures[f"masked {name}"] = count_masked(guesser.fill(masked), [question.answers for question in masked])
    for name, pairs in questions.next_sentence.items():
        figures[f"next sentence, {name}"] = count_next(guesser, pairs)
    figures["every token in turn"] = count_perplexity(guesser.fill(questions.sentences))
    return figures


def count_masked(guesses: Sequence[Sequence[Guess]], answers: Sequence[Sequence[str]]) -> MaskedFigures:
    """guesses, answers: per question, per mask."""
    answered = [
        (guess, answer)
        for of_one, hidden in zip(guesses, answers, strict=True)
        for guess, answer in zip(of_one, hidden, strict=True)
    ]
    return MaskedFigures(
        top_1=share(guess.top[0] == answer for guess, answer in answered),
        top_5=share(answer in guess.top for guess, answer in answered),
        perplexity=perplexity([guess for guess, _ in answered]),
        masks=len(answered),
    )


def count_next(guesser: Guesser, pairs: Sequence[PassagePair]) -> NextSentenceFigures:
    """A pair counts as consecutive above a probability of one half."""
    scores = guesser.score_next([(pair.first.text, pair.second.text) for pair in pairs])
    right = share((score > 0.5) == pair.is_next for score, pair in zip(scores, pairs, strict=True))
    return NextSentenceFigures(accuracy=right, pairs=len(pairs))


def count_perplexity(guesses: Sequence[Sequence[Guess]]) -> PerplexityFigures:
    """Of each question the first mask counts; those after it hide the rest of its word."""
    first = [of_one[0] for of_one in guesses]
    return PerplexityFigures(pseudo_perplexity=perplexity(first), tokens=len(first))


def perplexity(guesses: Sequence[Guess]) -> float:
    return math.exp(-float(np.mean([guess.answer_log_probability for guess in guesses])))


def share(truths: Iterable[bool]) -> float:
    return float(np.mean(list(truths)))
