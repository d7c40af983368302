"""What a service notes of its call, for its door to log, count and trace. It needs no library of a transport."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from bertserve.tasks.answers import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Which model answered, and how long each stage took. started: when its service took the call up, by
    `time.monotonic`."""

    model: str
    started: float
    timings: Timings


# Set by a service within its call, read by what stands around it; None if no model was asked.
ANSWERED: ContextVar[Answered | None] = ContextVar("answered", default=None)
