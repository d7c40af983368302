"""A running server, asked through `bertapi.client`. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from bertapi.client import BertClient, BertError, TextInput
from bertapi.results import FilledText
from questions import MaskedText, Token
from sources import TOP, EvaluationError, Guess

TEXTS_PER_REQUEST = 32
# A few requests under way at a time keep the server's cores busy and its queue short.
CALLS_AT_A_TIME = 4
TIMEOUT_SECONDS = 120.0

AskedT = TypeVar("AskedT")
AnswerT = TypeVar("AnswerT")


class ServerSource:
    """Answers come back in the order asked. Raises EvaluationError for whatever the server refuses."""

    def __init__(self, target: str, model: str = "") -> None:
        self._client = BertClient(target, model=model, timeout_seconds=TIMEOUT_SECONDS)
        self._callers = ThreadPoolExecutor(CALLS_AT_A_TIME)

    def tokenize(self, texts: Sequence[str]) -> list[list[Token]]:
        return self._ask(texts, TEXTS_PER_REQUEST, self._tokenize)

    def fill(self, questions: Sequence[MaskedText]) -> list[list[Guess]]:
        return self._ask(questions, TEXTS_PER_REQUEST, self._fill)

    def score_next(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return self._ask(pairs, 1, self._score_next)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._callers.shutdown(cancel_futures=True)
        self._client.close()

    def _ask(
        self, asked: Sequence[AskedT], per_request: int, ask: Callable[[Sequence[AskedT]], list[AnswerT]]
    ) -> list[AnswerT]:
        try:
            return [answer for answers in self._callers.map(ask, cut(asked, per_request)) for answer in answers]
        except BertError as error:
            raise EvaluationError(f"the server answers: {error}") from error

    def _tokenize(self, texts: Sequence[str]) -> list[list[Token]]:
        return [
            [Token(token.text, token.start, token.end) for token in result.tokens if not token.special]
            for result in self._client.tokenize(texts)
        ]

    def _fill(self, questions: Sequence[MaskedText]) -> list[list[Guess]]:
        inputs = [TextInput(text=q.text, text_pair=q.text_pair, targets=unique(q.answers)) for q in questions]
        filled = self._client.fill_mask(inputs, top_k=TOP)
        return [read_guesses(result, question) for result, question in zip(filled, questions, strict=True)]

    def _score_next(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [self._client.score_next_sentence(first, second)[0].probability for first, second in pairs]


def read_guesses(result: FilledText, question: MaskedText) -> list[Guess]:
    """Every target is scored at every mask of its text; a mask's own answer is the one that counts."""
    place = {answer: index for index, answer in enumerate(unique(question.answers))}
    return [
        Guess(
            top=tuple(prediction.token for prediction in mask.predictions),
            answer_log_probability=mask.targets[place[answer]].log_probability,
        )
        for mask, answer in zip(result.masks, question.answers, strict=True)
    ]


def unique(answers: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(answers))


def cut(asked: Sequence[AskedT], size: int) -> Iterator[Sequence[AskedT]]:
    return (asked[start : start + size] for start in range(0, len(asked), size))
