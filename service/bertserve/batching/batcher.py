"""The queue between requests and lanes: a thin shell around the decisions, living on the event loop's thread alone.

A lane takes what waits the moment it is free, and nobody waits for a fuller batch; one batch is kept packed and ready
while the lanes run. Every accepted request ends exactly once: with its results, an error, or its caller's leaving.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bertserve.batching.admission import Load, Refusal, Speed, Work, describe, estimate_wait, refuse, weigh
from bertserve.batching.line import Entry, Line, Request, Window
from bertserve.batching.model import Model
from bertserve.batching.policy import BatchLimits, choose_batch, choose_model
from bertserve.batching.running import Result, RunningBatch, fail
from bertserve.engine.contract import Engine
from bertserve.engine.items import Item, ItemOutputs
from bertserve.engine.lanes import Job, Lanes
from bertserve.errors import DeadlinePassed, EngineUnavailable, InvalidInput, Overloaded
from bertserve.observe.metrics import Metrics

Finished = TypeVar("Finished")
Finish = Callable[[int, ItemOutputs], Finished]

# A shorter item there is not: [CLS], a token, [SEP].
SHORTEST_ITEM_TOKENS = 3

# For each that may be under way: what has to be read, tokenized, sent and taken by the caller meanwhile.
STREAM_WINDOW_BATCHES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(Generic[Finished]):
    """Results in the order of the request's items. queue_seconds: from entering the queue to the start of its first
    batch; infer_seconds: from there to the end of its last."""

    results: tuple[Finished, ...]
    queue_seconds: float
    infer_seconds: float


class Batcher:
    """Admits requests, forms batches, hands results back. All methods run on the event loop's thread."""

    def __init__(self, lanes: Lanes, limits: BatchLimits, queue_limit_tokens: int, metrics: Metrics) -> None:
        """queue_limit_tokens: of each bundle, in line and as many behind it."""
        self._lanes = lanes
        self._limits = limits
        self._queue_limit_tokens = queue_limit_tokens
        self._metrics = metrics
        self._models: dict[str, Model] = {}
        # Each under itself: lanes and their watch know batches as jobs.
        self._running: dict[Job, RunningBatch] = {}
        self._numbers = itertools.count()
        self._batch_numbers = itertools.count()
        self._suspended = ""
        self._loop = asyncio.get_running_loop()

    def add_model(self, name: str, engine: Engine, speed: Speed) -> None:
        """Serve an engine under a name; `speed` is a first measurement, live batches correct it."""
        model = Model(name, engine, speed, Line(self._limits.batch_tokens), self._metrics.of_model(name))
        self._models[name] = model
        line = model.line
        self._metrics.watch_queue(
            name,
            tokens=lambda: line.waiting_tokens,
            items=lambda: line.waiting_items,
            oldest_seconds=lambda: model.oldest_seconds,
            wait_seconds=lambda: estimate_wait(SHORTEST_ITEM_TOKENS, self._work(model, time.monotonic())),
        )

    @property
    def stream_window_tokens(self) -> int:
        """What one stream needs unanswered to keep all lanes busy, with as much again on its way to the caller."""
        return STREAM_WINDOW_BATCHES * self._lanes.capacity * self._limits.batch_tokens

    def tokens_per_second(self, engine: Engine) -> float:
        """Of one lane, as live batches measure it."""
        return next(model.speed.tokens_per_second for model in self._models.values() if model.engine is engine)

    def check_room(self, name: str, deadline: float | None, tokens: int = SHORTEST_ITEM_TOKENS) -> None:
        """Refuse, before its texts are all tokenized, whom the queue could not take however short the others are.

        Raises as `run`.
        """
        self._admit(self._models[name], tokens, SHORTEST_ITEM_TOKENS, deadline, time.monotonic())

    async def run(
        self, name: str, items: Sequence[Item], deadline: float | None, finish: Finish[Finished],
        *, in_stream: bool = False,
    ) -> Completed[Finished]:  # fmt: skip
        """Run items of one request. deadline: by `time.monotonic`. finish: makes an item's result, on a lane.

        in_stream: waits for its turn among all streams instead of being refused when there is too much.
        Raises InvalidInput (larger than the queue), Overloaded, DeadlinePassed, EngineUnavailable, or what the engine
        or `finish` raised. A caller who is cancelled takes what still waits out of the queue.
        """
        model, arrived = self._models[name], time.monotonic()
        tokens = sum(item.length for item in items)
        if in_stream:
            self._check_service()
        else:
            self._admit(model, tokens, max(item.length for item in items), deadline, arrived)
        request = Request(
            number=next(self._numbers),
            items=items,
            tokens=tokens,
            finish=finish,
            arrived=arrived,
            deadline=deadline,
            window=model.line.streams if in_stream else Window(model.line.backlog),
            ended=self._loop.create_future(),
        )
        model.line.join(request, arrived)
        self._dispatch()
        try:
            await request.ended
        finally:
            if request.open_items:
                self._drop(model, request)
        return Completed(
            results=tuple(request.results),
            queue_seconds=request.first_started - arrived,
            infer_seconds=request.last_finished - request.first_started,
        )

    def suspend(self, reason: str) -> None:
        """Let nobody in for now; what was let in goes on."""
        self._suspended = reason

    def resume(self) -> None:
        self._suspended = ""

    def give_up(self, job: Job, reason: str) -> None:
        """Fail the requests of a batch that a lost lane leaves behind."""
        self._complete(job, EngineUnavailable(reason))

    def give_up_all(self, reason: str) -> None:
        """Fail everything that was let in."""
        for job in tuple(self._running):
            self.give_up(job, reason)
        for model in self._models.values():
            for request in tuple(model.line.requests()):
                fail(request, EngineUnavailable(reason))

    def _check_service(self) -> None:
        if self._suspended:
            raise EngineUnavailable(self._suspended)

    def _admit(self, model: Model, tokens: int, longest: int, deadline: float | None, now: float) -> None:
        self._check_service()
        load = weigh(tokens, longest, self._queue_limit_tokens, self._work(model, now))
        refusal = refuse(tokens, None if deadline is None else deadline - now, load)
        if refusal is not None:
            raise self._refused(model, refusal, tokens, load)

    def _refused(self, model: Model, refusal: Refusal, tokens: int, load: Load) -> Exception:
        reason = describe(refusal, tokens, load)
        if refusal is Refusal.TOO_LARGE:
            return InvalidInput("inputs", reason)
        model.metrics.rejected[refusal.value].inc()
        if refusal is Refusal.DEADLINE:
            return DeadlinePassed(reason)
        return Overloaded(reason, retry_after_seconds=max(0.05, load.wait_seconds / 2))

    def _dispatch(self) -> None:
        """Keep every lane busy, and one batch ready behind them."""
        while len(self._running) < self._lanes.capacity:
            last_batches = {name: model.last_batch for name, model in self._models.items() if model.line}
            if not last_batches:
                return
            model, now = self._models[choose_model(last_batches)], time.monotonic()
            choice = choose_batch(model.line, now, self._limits)
            for number in choice.expired:
                if number in model.line:
                    self._expire(model, model.line.request_of(number))
            entries = [model.line.take(number, now) for number in choice.batch if number in model.line]
            if entries:
                model.last_batch = next(self._batch_numbers)
                self._start(model, entries)

    def _start(self, model: Model, entries: list[Entry]) -> None:
        """Send a batch to the lanes. If it cannot be packed, its items go alone, so that only the culprit fails."""
        try:
            batches = [RunningBatch(model, entries, self._report)]
        except Exception:  # not enough memory, for example
            batches = self._pack_alone(model, entries)
        for batch in batches:
            self._running[batch] = batch
            self._lanes.submit(batch)

    def _pack_alone(self, model: Model, entries: list[Entry]) -> list[RunningBatch]:
        batches = []
        for entry in entries:
            try:
                batches.append(RunningBatch(model, [entry], self._report))
            except Exception as error:
                fail(entry.request, error)
        return batches

    def _report(self, batch: RunningBatch, result: Result) -> None:
        """Called on the lane."""
        self._loop.call_soon_threadsafe(self._complete, batch, result)

    def _complete(self, batch: Job, result: Result) -> None:
        running = self._running.pop(batch, None)
        if running is None:  # given up before
            return
        # The lanes come first, so that none waits while results are handed out.
        self._dispatch()
        running.complete(result)

    def _expire(self, model: Model, request: Request) -> None:
        if request.is_live:
            request.ended.set_exception(DeadlinePassed("the deadline passed in the queue"))
        self._drop(model, request)

    def _drop(self, model: Model, request: Request) -> None:
        """Take what still waits of an ended request out of the queue, before it costs anything."""
        now = time.monotonic()
        model.count_dropped(request, model.line.drop(request, now), now)

    def _work(self, model: Model, now: float) -> Work:
        """What the lanes have to do, seen from one bundle."""
        return Work(
            own=model.queued,
            others=[other.queued for other in self._models.values() if other.line and other is not model],
            running=[batch.progress for batch in self._running.values()],
            lanes=self._lanes.count,
            batch_tokens=self._limits.batch_tokens,
            now=now,
        )
