"""A bundle at work: its engine, its line, how fast it is, and what is counted of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bertserve.batching.admission import Queued, Speed
from bertserve.batching.line import Line, Request
from bertserve.deadlines import has_passed
from bertserve.engine.contract import Engine
from bertserve.engine.lanes import BatchResult
from bertserve.observe.metrics import ModelMetrics


@dataclass(slots=True, eq=False)
class Model:
    """speed: of one lane, as live batches measure it. last_batch: number of its last batch."""

    name: str
    engine: Engine
    speed: Speed
    line: Line
    metrics: ModelMetrics
    last_batch: int = -1

    @property
    def queued(self) -> Queued:
        """What waits of it now."""
        line = self.line
        return Queued(
            line_tokens=line.tokens,
            backlog_tokens=line.backlog.tokens,
            stream_backlog_tokens=line.streams.backlog.tokens,
            next_tokens=next(iter(line)).tokens if line else 0,
            tokens_per_second=self.speed.tokens_per_second,
            last_batch=self.last_batch,
        )

    @property
    def oldest_seconds(self) -> float:
        """Age of the request that waits longest; 0 where none does."""
        now = time.monotonic()
        return now - min((request.arrived for request in self.line.requests()), default=now)

    def record(self, tokens: int, items: int, result: BatchResult) -> None:
        """Count a batch that ran, and correct the speed by it."""
        seconds = result.finished - result.started
        if not result.failures:
            self.speed = self.speed.after(tokens, seconds)
        self.metrics.batch_tokens.observe(tokens)
        self.metrics.batch_items.observe(items)
        self.metrics.tokens.inc(tokens)
        self.metrics.engine_busy_seconds.inc(seconds)
        self.metrics.engine_failures.inc(result.failures)

    def count_dropped(self, request: Request, items: int, now: float) -> None:
        """Count items that never ran because their request had ended."""
        if items:
            is_late = request.deadline is not None and has_passed(request.deadline - now, now - request.arrived)
            self.metrics.dropped["expired" if is_late else "cancelled"].inc(items)
