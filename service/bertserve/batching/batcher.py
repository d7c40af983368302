"""The queue between requests and lanes: a thin shell around `policy`, living on the event loop's thread alone.

A lane takes what waits the moment it is free, and nobody waits for a fuller batch; one batch is kept packed and ready
while the lanes run. Every accepted request ends exactly once: with its outputs, an error, or its caller's leaving.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from bertserve.batching.policy import BatchLimits, Load, Refusal, Speed, Waiting, choose_batch, refuse
from bertserve.engine.items import Item, ItemOutputs
from bertserve.engine.lanes import BatchResult, Job, Lanes
from bertserve.engine.packing import PackedBatch
from bertserve.engine.session import Engine
from bertserve.errors import DeadlinePassed, InvalidInput, Overloaded
from bertserve.logs import log_failure
from bertserve.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """Outputs in the order of the request's items. queue_seconds: from entering the queue to the start of its first
    batch; infer_seconds: from there to the end of its last."""

    outputs: tuple[ItemOutputs, ...]
    queue_seconds: float
    infer_seconds: float


@dataclass(slots=True, eq=False)
class _Request:
    model: str
    arrived: float
    outputs: list[ItemOutputs | None]
    ended: asyncio.Future[None]
    open_items: int
    waiting: set[int] = field(default_factory=set)
    first_started: float = float("inf")
    last_finished: float = 0.0

    @property
    def is_live(self) -> bool:
        return not self.ended.done()


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    waiting: Waiting
    item: Item
    request: _Request
    index: int


@dataclass(slots=True)
class _Model:
    engine: Engine
    speed: Speed
    queued_tokens: int = 0
    queued_items: int = 0


@dataclass(slots=True)
class _Flight:
    """A batch on its way. The lane that takes it leaves out what has ended meanwhile."""

    engine: Engine
    entries: list[_Entry]
    packed: PackedBatch = field(init=False)

    def __post_init__(self) -> None:
        self.packed = self.engine.pack([entry.item for entry in self.entries])

    def take(self) -> PackedBatch | None:
        live = [entry for entry in self.entries if entry.request.is_live]
        if not live:
            return None
        if len(live) < len(self.entries):
            self.entries = live
            self.packed = self.engine.pack([entry.item for entry in live])
        return self.packed


class Batcher:
    """Admits requests, forms batches, hands results back. All methods run on the event loop's thread."""

    def __init__(self, lanes: Lanes, limits: BatchLimits, queue_limit_tokens: int, metrics: Metrics) -> None:
        self._lanes = lanes
        self._limits = limits
        self._queue_limit_tokens = queue_limit_tokens
        self._metrics = metrics
        self._queue: OrderedDict[int, _Entry] = OrderedDict()
        self._models: dict[str, _Model] = {}
        self._next_number = 0
        self._in_flight = 0
        self._loop = asyncio.get_running_loop()

    def add_model(self, name: str, engine: Engine, speed: Speed) -> None:
        """Serve an engine under a name; `speed` is a first measurement, live batches correct it."""
        model = self._models[name] = _Model(engine, speed)
        self._metrics.watch_queue(
            name,
            tokens=lambda: model.queued_tokens,
            items=lambda: model.queued_items,
            oldest_seconds=lambda: self._oldest_seconds(name),
            wait_seconds=self._wait_seconds,
        )

    async def run(self, model: str, items: Sequence[Item], deadline: float | None) -> Completed:
        """Run items of one request. deadline: by `time.monotonic`.

        Raises InvalidInput (larger than the queue), Overloaded, DeadlinePassed, or what the engine raised. A caller who
        is cancelled takes what still waits out of the queue.
        """
        arrived = time.monotonic()
        self._admit(model, items, deadline, arrived)
        request = _Request(model, arrived, [None] * len(items), self._loop.create_future(), len(items))
        for index, item in enumerate(items):
            waiting = Waiting(
                number=self._next_number, model=model, tokens=item.length, arrived=arrived, deadline=deadline
            )
            self._enqueue(_Entry(waiting, item, request, index))
        self._dispatch()
        try:
            await request.ended
        finally:
            is_late = deadline is not None and deadline <= time.monotonic()
            self._drop_rest(request, "expired" if is_late else "cancelled")
        return Completed(
            outputs=tuple(outputs for outputs in request.outputs if outputs is not None),
            queue_seconds=request.first_started - arrived,
            infer_seconds=request.last_finished - request.first_started,
        )

    def _admit(self, name: str, items: Sequence[Item], deadline: float | None, now: float) -> None:
        tokens = sum(item.length for item in items)
        longest = max(item.length for item in items)
        speed = self._models[name].speed.tokens_per_second
        load = Load(
            queued_tokens=sum(model.queued_tokens for model in self._models.values()),
            queue_limit_tokens=self._queue_limit_tokens,
            wait_seconds=self._wait_seconds(),
            run_seconds=max(longest, tokens / self._lanes.count) / speed,
        )
        refusal = refuse(tokens, None if deadline is None else deadline - now, load)
        if refusal is not None:
            raise self._refused(name, refusal, tokens, load)

    def _refused(self, model: str, refusal: Refusal, tokens: int, load: Load) -> Exception:
        if refusal is Refusal.TOO_LARGE:
            limit = load.queue_limit_tokens
            return InvalidInput("inputs", f"{tokens} tokens together, the server takes {limit} in one request")
        self._metrics.rejected.labels(model, refusal.value).inc()
        if refusal is Refusal.DEADLINE:
            return DeadlinePassed(f"the deadline is nearer than the {load.run_seconds:.3f} s that the request takes")
        retry_after = max(0.05, load.wait_seconds / 2)
        if refusal is Refusal.QUEUE_FULL:
            return Overloaded("the queue is full", retry_after)
        return Overloaded(f"the wait of about {load.wait_seconds:.3f} s would outlast the deadline", retry_after)

    def _enqueue(self, entry: _Entry) -> None:
        self._next_number += 1
        self._queue[entry.waiting.number] = entry
        entry.request.waiting.add(entry.waiting.number)
        model = self._models[entry.waiting.model]
        model.queued_tokens += entry.waiting.tokens
        model.queued_items += 1

    def _dequeue(self, number: int) -> _Entry:
        entry = self._queue.pop(number)
        entry.request.waiting.discard(number)
        model = self._models[entry.waiting.model]
        model.queued_tokens -= entry.waiting.tokens
        model.queued_items -= 1
        return entry

    def _dispatch(self) -> None:
        """Keep every lane busy, and one batch ready behind them."""
        while self._queue and self._in_flight < self._lanes.capacity:
            now = time.monotonic()
            choice = choose_batch((entry.waiting for entry in self._queue.values()), now, self._limits)
            for number in choice.expired:
                if number in self._queue:
                    self._expire(self._queue[number].request)
            entries = [self._dequeue(number) for number in choice.batch if number in self._queue]
            if entries:
                self._launch(entries)

    def _launch(self, entries: list[_Entry]) -> None:
        flight = _Flight(self._models[entries[0].waiting.model].engine, entries)

        def done(result: BatchResult | Exception | None) -> None:
            self._loop.call_soon_threadsafe(self._land, flight, result)

        self._in_flight += 1
        self._lanes.submit(Job(engine=flight.engine, take=flight.take, done=done))

    def _land(self, flight: _Flight, result: BatchResult | Exception | None) -> None:
        self._in_flight -= 1
        if isinstance(result, Exception):
            for entry in flight.entries:
                self._fail(entry.request, result)
        elif result is not None:
            self._measure(flight, result)
            for entry, outcome in zip(flight.entries, result.outcomes, strict=True):
                self._finish_item(entry, outcome, result)
        self._dispatch()

    def _measure(self, flight: _Flight, result: BatchResult) -> None:
        name = flight.entries[0].waiting.model
        tokens, seconds = flight.packed.token_count, result.finished - result.started
        if not result.failures:
            model = self._models[name]
            model.speed = model.speed.after(tokens, seconds)
        self._metrics.batch_tokens.labels(name).observe(tokens)
        self._metrics.batch_items.labels(name).observe(len(flight.entries))
        self._metrics.tokens.labels(name).inc(tokens)
        self._metrics.engine_busy_seconds.labels(name).inc(seconds)
        self._metrics.engine_failures.labels(name).inc(result.failures)

    def _finish_item(self, entry: _Entry, outcome: ItemOutputs | Exception, result: BatchResult) -> None:
        request = entry.request
        if not request.is_live:
            return
        request.first_started = min(request.first_started, result.started)
        request.last_finished = max(request.last_finished, result.finished)
        if isinstance(outcome, Exception):
            self._fail(request, outcome)
            return
        request.outputs[entry.index] = outcome
        request.open_items -= 1
        if request.open_items == 0:
            request.ended.set_result(None)

    def _fail(self, request: _Request, error: Exception) -> None:
        if request.is_live:
            log_failure("the engine failed on an item", error)
            request.ended.set_exception(error)

    def _expire(self, request: _Request) -> None:
        if request.is_live:
            request.ended.set_exception(DeadlinePassed("the deadline passed in the queue"))
        self._drop_rest(request, "expired")

    def _drop_rest(self, request: _Request, reason: str) -> None:
        """Take what still waits of an ended request out of the queue, before it costs anything."""
        if request.waiting:
            self._metrics.dropped.labels(request.model, reason).inc(len(request.waiting))
            for number in tuple(request.waiting):
                self._dequeue(number)

    def _wait_seconds(self) -> float:
        lane_seconds = sum(model.queued_tokens / model.speed.tokens_per_second for model in self._models.values())
        return lane_seconds / self._lanes.count

    def _oldest_seconds(self, name: str) -> float:
        arrivals = (entry.waiting.arrived for entry in self._queue.values() if entry.waiting.model == name)
        return max(0.0, time.monotonic() - next(arrivals, time.monotonic()))
