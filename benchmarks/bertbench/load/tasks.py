"""What can be asked: each task turns texts into a call of the API, and counts the tokens of its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bertapi import calls
from bertapi.calls import Call
from bertapi.v1 import bert_service_pb2 as pb

MASK = "[MASK]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """make: texts, and the name of a model, → a call. answer: its response's class. count_tokens: those that the model
    ran for an answer."""

    make: Callable[[Sequence[str], str], Call[Any]]
    answer: Any
    count_tokens: Callable[[Any], int]


def mask_a_word(text: str) -> str:
    """The text with its middle word masked."""
    words = text.split()
    words[len(words) // 2] = MASK
    return " ".join(words)


def _embed(texts: Sequence[str], model: str) -> Call[Any]:
    return calls.embed(texts, pooling="mean", truncation="end", model=model)


def _fill(texts: Sequence[str], model: str) -> Call[Any]:
    return calls.fill_mask([mask_a_word(text) for text in texts], truncation="end", model=model)


def _score_next_sentence(texts: Sequence[str], model: str) -> Call[Any]:
    return calls.score_next_sentence(texts[0], texts, truncation="end", model=model)


def _analyze(texts: Sequence[str], model: str) -> Call[Any]:
    return calls.analyze(
        [mask_a_word(text) for text in texts], embed=True, fill_mask=True, truncation="end", model=model
    )


def _classify(texts: Sequence[str], model: str) -> Call[Any]:
    return calls.classify(texts, truncation="end", model=model)


def _tokenize(texts: Sequence[str], model: str) -> Call[Any]:
    return calls.tokenize(texts, truncation="end", model=model)


# Shares of a mix name tasks as bertcall names its commands.
TASKS = {
    "embed": Task(
        make=_embed, answer=pb.EmbedResponse, count_tokens=lambda answer: sum(e.token_count for e in answer.embeddings)
    ),
    "fill": Task(
        make=_fill, answer=pb.FillMaskResponse, count_tokens=lambda answer: sum(r.token_count for r in answer.results)
    ),
    "nsp": Task(
        make=_score_next_sentence,
        answer=pb.ScoreNextSentenceResponse,
        count_tokens=lambda answer: sum(score.token_count for score in answer.scores),
    ),
    "analyze": Task(
        make=_analyze,
        answer=pb.AnalyzeResponse,
        count_tokens=lambda answer: sum(a.embedding.token_count for a in answer.analyses),
    ),
    "classify": Task(
        make=_classify,
        answer=pb.ClassifyResponse,
        count_tokens=lambda answer: sum(r.token_count for r in answer.results),
    ),
    # Runs no model.
    "tokenize": Task(make=_tokenize, answer=pb.TokenizeResponse, count_tokens=lambda _answer: 0),
}
