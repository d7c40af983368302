"""A bundle at work: its engine, its line, how fast it is, and what is counted of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bertserve.batching.admission import Neighbour, Speed
from bertserve.batching.line import Line
from bertserve.engine.contract import Engine
from bertserve.observe.metrics import ModelMetrics


@dataclass(slots=True, eq=False)
class Model:
    """speed: of one lane, as live batches measure it. last_turn: number of its last batch."""

    name: str
    engine: Engine
    speed: Speed
    line: Line
    metrics: ModelMetrics
    last_turn: int = -1

    def as_neighbour(self, model: Model, batch_tokens: int) -> Neighbour:
        """What another bundle has to expect of this one, which has a line. batch_tokens: budget of a batch."""
        waiting = self.line.tokens + self.line.tokens_behind
        batch = max(batch_tokens, next(iter(self.line)).tokens)  # one longer item runs alone
        return Neighbour(
            waiting_seconds=waiting / self.speed.tokens_per_second,
            batch_seconds=batch / self.speed.tokens_per_second,
            is_next=self.last_turn <= model.last_turn,
        )

    @property
    def oldest_seconds(self) -> float:
        """Age of the request that waits longest; 0 where none does."""
        now = time.monotonic()
        return now - min((request.arrived for request in self.line.requests()), default=now)
