"""A bundle at work: its engine, its line, how fast it is, and what is counted of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bertserve.batching.admission import Speed
from bertserve.batching.line import Line
from bertserve.engine.session import Engine
from bertserve.metrics import ModelMetrics


@dataclass(slots=True, eq=False)
class Model:
    """speed: of one lane, as live batches measure it. last_turn: number of its last batch."""

    name: str
    engine: Engine
    speed: Speed
    line: Line
    metrics: ModelMetrics
    last_turn: int = -1

    @property
    def line_seconds(self) -> float:
        """Lane time that the line takes."""
        return self.line.tokens / self.speed.tokens_per_second

    @property
    def oldest_seconds(self) -> float:
        """Age of the request that waits longest; 0 where none does."""
        now = time.monotonic()
        return now - min((request.arrived for request in self.line.requests()), default=now)
