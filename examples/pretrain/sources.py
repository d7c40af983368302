"""Who answers the questions: what `figures` asks of a model, and the baseline that never reads the context.

The models themselves are in `checkpoint_source` (`transformers`) and `server_source` (`bertapi.client`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from questions import MaskedText, PassagePair, Token

TOP = 5


class EvaluationError(Exception):
    """What stops an evaluation, in one line for the person who reads it."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a model says about one mask. top: its likeliest tokens, best first; answer_log_probability: natural
    logarithm of the probability that it gives to the hidden token."""

    top: tuple[str, ...]
    answer_log_probability: float


class Guesser(Protocol):
    """Anything that fills masks and scores next sentences."""

    def fill(self, questions: Sequence[MaskedText]) -> list[list[Guess]]:
        """A guess per mask of each question."""
        ...

    def score_next(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """For each pair the probability that the second text follows the first."""
        ...


class Model(Guesser, Protocol):
    """A guesser with a tokenizer."""

    def tokenize(self, texts: Sequence[str]) -> list[list[Token]]:
        """Tokens of each text, without the special tokens that a model adds."""
        ...


@runtime_checkable
class AsksAsTrained(Protocol):
    """A model that can be asked in token ids, as training asks, and not in texts alone."""

    def fill_as_trained(self, pairs: Sequence[PassagePair], seed: int) -> tuple[list[list[Guess]], list[list[str]]]:
        """Guesses and answers, per pair and asked token."""
        ...


class Unigram:
    """The best that can be done without reading: every mask gets the words that are frequent anywhere."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._counts = Counter(tokens)
        self._top = tuple(token for token, _ in self._counts.most_common(TOP))
        # Add-one smoothing, with one more share for all tokens never seen.
        self._total = self._counts.total() + len(self._counts) + 1

    def fill(self, questions: Sequence[MaskedText]) -> list[list[Guess]]:
        return [self.guess(question.answers) for question in questions]

    def guess(self, answers: Sequence[str]) -> list[Guess]:
        return [Guess(self._top, self._log_probability(answer)) for answer in answers]

    def score_next(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [1.0] * len(pairs)

    def _log_probability(self, token: str) -> float:
        return math.log((self._counts[token] + 1) / self._total)
