"""A batch between the queue and its callers: packed, run by a lane, and handed back item by item."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bertserve.batching.admission import Running
from bertserve.batching.line import Entry, Request
from bertserve.batching.model import Model
from bertserve.engine.contract import Engine
from bertserve.engine.items import ItemOutputs
from bertserve.engine.lanes import BatchResult, Job
from bertserve.engine.packing import PackedBatch
from bertserve.errors import EngineUnavailable
from bertserve.observe.logs import log_failure

Result = BatchResult | Exception | None


class RunningBatch(Job):
    """Items of one bundle that run together.

    It is packed on the event loop. The lane calls `take` and `done`, which leave out requests that have ended and make
    results of the outputs. The event loop calls `complete`.
    """

    def __init__(self, model: Model, entries: list[Entry], on_done: Callable[[RunningBatch, Result], None]) -> None:
        """Raises what packing raises. on_done: told on the lane, with results in place of outputs."""
        self.model = model
        #: When a lane took it, by `time.monotonic`; None until then.
        self.started: float | None = None
        self.packed = model.engine.pack([entry.item for entry in entries])
        self._entries = entries
        self._left_out: list[Entry] = []
        self._on_done = on_done

    @property
    def engine(self) -> Engine:
        return self.model.engine

    @property
    def progress(self) -> Running:
        """How far it is."""
        return Running(self.packed.token_count, self.model.speed.tokens_per_second, self.started)

    def take(self) -> PackedBatch | None:
        self.started = time.monotonic()
        live = [entry for entry in self._entries if entry.request.is_live]
        if len(live) < len(self._entries):
            self._left_out = [entry for entry in self._entries if entry not in live]
            self._entries = live
            if live:
                self.packed = self.engine.pack([entry.item for entry in live])
        return self.packed if live else None

    def done(self, result: Result) -> None:
        # Results replace outputs item by item, so that no request holds the outputs of whole batches.
        if isinstance(result, BatchResult):
            outcomes = [_finish(entry, outcome) for entry, outcome in zip(self._entries, result.outcomes, strict=True)]
            result = replace(result, outcomes=tuple(outcomes))
        self._on_done(self, result)

    def complete(self, result: Result) -> None:
        """Hand every request what became of its items: its results, or an error if the batch failed as a whole."""
        for entry in self._left_out:
            self.model.count_dropped(entry.request, 1, self.started or time.monotonic())
        if isinstance(result, Exception):
            for entry in self._entries:
                fail(entry.request, result)
        elif result is not None:
            self.model.record(self.packed.token_count, len(self._entries), result)
            for entry, outcome in zip(self._entries, result.outcomes, strict=True):
                _complete_item(entry, outcome, result)


def fail(request: Request, error: Exception) -> None:
    """End a request with an error, unless it has ended already."""
    if request.is_live:
        if not isinstance(error, EngineUnavailable):
            log_failure("the engine failed on an item", error)
        request.ended.set_exception(error)


def _complete_item(entry: Entry, outcome: object, result: BatchResult) -> None:
    request = entry.request
    if not request.is_live:
        return
    request.first_started = min(request.first_started, result.started)
    request.last_finished = max(request.last_finished, result.finished)
    if isinstance(outcome, Exception):
        fail(request, outcome)
        return
    request.results[entry.index] = outcome
    request.open_items -= 1
    if request.open_items == 0:
        request.ended.set_result(None)


def _finish(entry: Entry, outcome: ItemOutputs | Exception) -> Any:
    if isinstance(outcome, Exception) or not entry.request.is_live:
        return outcome
    try:
        return entry.request.finish(entry.index, outcome)
    except Exception as error:  # a bug, or no memory: it fails alone
        return error
