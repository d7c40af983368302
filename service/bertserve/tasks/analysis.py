"""One request from ask to answer: prepare, wait for the engine, finish. What is long runs beside the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from bertserve.batching.batcher import Batcher
from bertserve.metrics import Metrics
from bertserve.models import ServedModel
from bertserve.tasks.answers import Analysis, Timings
from bertserve.tasks.asks import Ask
from bertserve.tasks.finish import finish
from bertserve.tasks.prepare import Limits, check_tokenize, prepare, tokenize_inputs
from bertserve.tokenizer import TokenizedText

# Above these, tokenizing and finishing would hold up the event loop for milliseconds; below, a thread costs more.
INLINE_CHARACTERS = 2048
INLINE_RESPONSE_BYTES = 65_536

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Analyses in the order of the inputs, and where the time went. is_large: writing it belongs beside the loop."""

    analyses: tuple[Analysis, ...]
    timings: Timings
    is_large: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeAnswer:
    """Tokens in the order of the inputs. is_large: writing it belongs beside the loop."""

    texts: tuple[TokenizedText, ...]
    timings: Timings
    is_large: bool


class Analyzer:
    """Answers asks. Lives on the event loop; heavy text work of one request at a time goes to a thread."""

    def __init__(self, batcher: Batcher, limits: Limits, metrics: Metrics) -> None:
        self._batcher = batcher
        self._limits = limits
        self._metrics = metrics
        self._text_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="text")

    @property
    def limits(self) -> Limits:
        return self._limits

    async def analyze(self, model: ServedModel, ask: Ask, deadline: float | None) -> Answer:
        """Everything that was asked, from one pass per input. deadline: by `time.monotonic`.

        Raises InvalidInput, MissingHead, Overloaded, DeadlinePassed, or what the engine raised.
        """
        started = time.monotonic()
        prepared = await self.work(_is_long(ask), lambda: prepare(model, ask, self._limits))
        is_large = prepared.response_bytes > INLINE_RESPONSE_BYTES
        tokenized = time.monotonic()
        completed = await self._batcher.run(model.name, prepared.items, deadline)
        returned = time.monotonic()
        analyses = await self.work(is_large, lambda: finish(model, prepared, completed.outputs))
        timings = Timings(
            tokenize_seconds=tokenized - started,
            queue_seconds=completed.queue_seconds,
            infer_seconds=completed.infer_seconds,
            finish_seconds=time.monotonic() - returned,
        )
        self._observe(model.name, timings)
        return Answer(analyses=analyses, timings=timings, is_large=is_large)

    async def tokenize(self, model: ServedModel, ask: Ask) -> TokenizeAnswer:
        """Tokens exactly as the model would see them. Raises InvalidInput."""
        check_tokenize(ask, self._limits)
        started, is_long = time.monotonic(), _is_long(ask)
        texts = await self.work(is_long, lambda: tokenize_inputs(model, ask))
        timings = Timings(tokenize_seconds=time.monotonic() - started)
        return TokenizeAnswer(texts=texts, timings=timings, is_large=is_long)

    def stop(self) -> None:
        self._text_thread.shutdown(wait=False, cancel_futures=True)

    async def work(self, is_large: bool, work: Callable[[], Result]) -> Result:
        """Do it here and now, or where it is large beside the event loop."""
        if not is_large:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._text_thread, work)

    def _observe(self, model: str, timings: Timings) -> None:
        for stage, seconds in (
            ("tokenize", timings.tokenize_seconds),
            ("queue", timings.queue_seconds),
            ("infer", timings.infer_seconds),
            ("finish", timings.finish_seconds),
        ):
            self._metrics.stage_seconds.labels(model, stage).observe(seconds)


def _is_long(ask: Ask) -> bool:
    return sum(len(text.text) + len(text.text_pair or "") for text in ask.inputs) > INLINE_CHARACTERS
