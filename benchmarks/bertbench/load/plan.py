"""What a run does, and each process's part in it. Pure: a plan and a seed decide all but what the server does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertbench.load.arrivals import Arrivals, Seconds, schedule
from bertbench.load.requests import PreparedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Calls are sent when they are due, whatever became of the ones before. rate: calls a second."""

    rate: float
    arrivals: Arrivals = Arrivals.POISSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """So many callers, each of whom sends the next call when the last has ended."""

    callers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run against a target, HOST:PORT or any gRPC name.

    seconds: how long calls count, after warmup_seconds of the same load. timeout_seconds: deadline of every call.
    cancelled: share of calls that are cancelled at a random moment of their first cancel_within_seconds. connections:
    of each process; servers bound the calls that one may have open, and the rest would wait on this side.
    """

    target: str
    loop: OpenLoop | ClosedLoop
    seconds: float
    warmup_seconds: float = 1.0
    timeout_seconds: float = 10.0
    cancelled: float = 0.0
    cancel_within_seconds: float = 0.1
    processes: int = 1
    connections: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPart:
    """One process's part. moments: when to send, seconds from the start of the run (negative: warm-up); None in a
    closed loop, where `callers` send. requests: sent in this order, round and round; cancel_after: seconds until the
    call of the same place is cancelled, NaN: never."""

    target: str
    requests: tuple[PreparedRequest, ...]
    cancel_after: Seconds
    moments: Seconds | None
    callers: int
    connections: int
    seconds: float
    warmup_seconds: float
    timeout_seconds: float


def deal(plan: Plan, requests: tuple[PreparedRequest, ...]) -> list[ClientPart]:
    """The parts of all processes. Together they send exactly the plan's schedule, call by call in turn."""
    rng = np.random.default_rng(plan.seed)
    moments = _moments(plan, rng)
    cancel_after = _cancellations(plan, len(requests), rng)
    parts = []
    for process in range(plan.processes):
        turn = slice(process, None, plan.processes)
        parts.append(
            ClientPart(
                target=plan.target,
                requests=requests[turn],
                cancel_after=cancel_after[turn],
                moments=None if moments is None else moments[turn],
                callers=_share_of_callers(plan, process),
                connections=plan.connections,
                seconds=plan.seconds,
                warmup_seconds=plan.warmup_seconds,
                timeout_seconds=plan.timeout_seconds,
            )
        )
    return parts


def _moments(plan: Plan, rng: np.random.Generator) -> Seconds | None:
    if isinstance(plan.loop, ClosedLoop):
        return None
    return schedule(plan.loop.arrivals, plan.loop.rate, -plan.warmup_seconds, plan.seconds, rng)


def _cancellations(plan: Plan, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    after = rng.uniform(0, plan.cancel_within_seconds, count)
    return np.where(rng.uniform(size=count) < plan.cancelled, after, np.nan)


def _share_of_callers(plan: Plan, process: int) -> int:
    if isinstance(plan.loop, OpenLoop):
        return 0
    return plan.loop.callers // plan.processes + (process < plan.loop.callers % plan.processes)
