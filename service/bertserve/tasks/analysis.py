"""One request from ask to answer: prepare, wait for the engine, finish. What is long runs beside the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, TypeVarTuple

from bertserve.batching.batcher import Batcher
from bertserve.engine.items import ItemOutputs
from bertserve.errors import DeadlinePassed
from bertserve.models import ServedModel
from bertserve.observe.metrics import Metrics
from bertserve.tasks.answers import Analysis, Timings
from bertserve.tasks.asks import Ask
from bertserve.tasks.finish import finish_item
from bertserve.tasks.limits import Limits, check_inputs
from bertserve.tasks.prepare import (
    Prepared,
    check,
    check_tokens_size,
    prepare,
    tokenize_inputs,
)
from bertserve.tasks.sizes import SizeModel
from bertserve.tokenizer import TokenizedText

# Above these, tokenizing and finishing would hold up the event loop for milliseconds; below, a thread costs more.
INLINE_CHARACTERS = 2048
INLINE_RESPONSE_BYTES = 65_536
INLINE_TARGETS = 16
INLINE_TOKENS = 512

# Tokenized at a time beside the event loop: some ten milliseconds' worth.
PORTION_CHARACTERS = 32_768

Result = TypeVar("Result")

Arguments = TypeVarTuple("Arguments")

# Raises if a request that has so many tokens so far cannot be served.
CheckCapacity = Callable[[int], None]


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

    @property
    def stream_window_tokens(self) -> int:
        return self._batcher.stream_window_tokens

    async def analyze(self, model: ServedModel, ask: Ask, deadline: float | None, sizes: SizeModel) -> Answer:
        """Everything that was asked, from one pass per input. deadline: by `time.monotonic`; sizes: of the door.

        Raises InvalidInput, MissingHead, Overloaded, DeadlinePassed, EngineUnavailable, or what the engine raised.
        """
        check_capacity = partial(self._batcher.check_room, model.name, deadline)
        check_capacity()
        return await self.answer(model, await self.prepare(model, ask, deadline, sizes, check_capacity), deadline)

    async def prepare(
        self,
        model: ServedModel,
        ask: Ask,
        deadline: float | None,
        sizes: SizeModel,
        check_capacity: CheckCapacity | None = None,
    ) -> Prepared:
        """All before the queue. Raises InvalidInput, MissingHead, DeadlinePassed, or what check_capacity raises."""
        started = time.monotonic()
        check(model, ask, self._limits)
        texts = await self._tokenize(model, ask, deadline, check_capacity)
        prepared = await self.offload(_has_many_targets(ask), prepare, model, ask, texts, self._limits, sizes)
        return replace(prepared, seconds=time.monotonic() - started)

    async def answer(
        self, model: ServedModel, prepared: Prepared, deadline: float | None, *, in_stream: bool = False
    ) -> Answer:
        """The queue and what comes after it. in_stream: as of `Batcher.run`, which says too what this raises."""
        finish_seconds: list[float] = []

        def finish(index: int, outputs: ItemOutputs) -> Analysis:
            begun = time.monotonic()
            analysis = finish_item(model, prepared, index, outputs)
            finish_seconds.append(time.monotonic() - begun)
            return analysis

        completed = await self._batcher.run(model.name, prepared.items, deadline, finish, in_stream=in_stream)
        timings = Timings(
            tokenize_seconds=prepared.seconds,
            queue_seconds=completed.queue_seconds,
            infer_seconds=completed.infer_seconds,
            finish_seconds=sum(finish_seconds),
        )
        self._observe(model.name, timings)
        is_large = prepared.response_bytes > INLINE_RESPONSE_BYTES
        return Answer(analyses=completed.results, timings=timings, is_large=is_large)

    async def tokenize(self, model: ServedModel, ask: Ask, deadline: float | None, sizes: SizeModel) -> TokenizeAnswer:
        """Tokens exactly as the model would see them. Raises InvalidInput, DeadlinePassed."""
        check_inputs(ask, self._limits)
        check_capacity = partial(check_tokens_size, model, self._limits, sizes, len(ask.inputs))
        started = time.monotonic()
        texts = await self._tokenize(model, ask, deadline, check_capacity)
        check_capacity(sum(len(text) for text in texts))
        timings = Timings(tokenize_seconds=time.monotonic() - started)
        is_large = sum(len(text) for text in texts) > INLINE_TOKENS
        return TokenizeAnswer(texts=tuple(texts), timings=timings, is_large=is_large)

    def stop(self) -> None:
        self._text_thread.shutdown(wait=False, cancel_futures=True)

    async def offload(self, is_large: bool, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Run work on a thread beside the event loop if it is large, otherwise at once."""
        if not is_large:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._text_thread, work, *arguments)

    async def _tokenize(
        self, model: ServedModel, ask: Ask, deadline: float | None, check_capacity: CheckCapacity | None
    ) -> list[TokenizedText]:
        """In portions where it is long: others take turns in between, and nothing is done for who has left, or has too
        many tokens already."""
        characters = [len(text.text) + len(text.text_pair or "") for text in ask.inputs]
        portions = cut_portions(characters, PORTION_CHARACTERS)
        is_long = sum(characters) > INLINE_CHARACTERS
        texts: list[TokenizedText] = []
        tokens = 0
        for first, end in portions:
            if deadline is not None and deadline <= time.monotonic():
                raise DeadlinePassed("the deadline passed while the texts were tokenized")
            if first > 0 and check_capacity is not None:
                check_capacity(tokens)
            texts += await self.offload(is_long, tokenize_inputs, model, ask, first, end)
            tokens += sum(len(text) for text in texts[first:end])
        return texts

    def _observe(self, model: str, timings: Timings) -> None:
        stages = self._metrics.of_model(model).stages
        stages["tokenize"].observe(timings.tokenize_seconds)
        stages["queue"].observe(timings.queue_seconds)
        stages["infer"].observe(timings.infer_seconds)
        stages["finish"].observe(timings.finish_seconds)


def cut_portions(sizes: Sequence[int], portion: int) -> list[tuple[int, int]]:
    """Consecutive ranges (first, end) that cover all sizes, each within `portion` or a single larger one."""
    portions: list[tuple[int, int]] = []
    first = total = 0
    for index, size in enumerate(sizes):
        if index > first and total + size > portion:
            portions.append((first, index))
            first, total = index, 0
        total += size
    return [*portions, (first, len(sizes))]


def _has_many_targets(ask: Ask) -> bool:
    shared = len(ask.fill_mask.targets) if ask.fill_mask is not None else 0
    return shared + sum(len(targets) for targets in ask.input_targets) > INLINE_TARGETS
