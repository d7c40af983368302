"""Requests ready to send: drawn from a mix of tasks, texts and sizes, serialized once, so that sending costs little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bertapi.transport import SERVICE

from bertbench.errors import BenchError
from bertbench.load.tasks import TASKS

# Distinct requests; a run sends them round and round.
POOL_SIZE = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """task: key of TASKS. kind: under which name it is counted. path: of the method, as HTTP/2 has it. message:
    serialized. texts: how many it holds. tokens: of its texts, where they are known beforehand; else answers tell."""

    task: str
    kind: str
    path: str
    message: bytes
    texts: int
    tokens: int | None = None


def prepare(
    texts: Sequence[str],
    mix: Mapping[str, float],
    sizes: Mapping[int, float],
    rng: np.random.Generator,
    *,
    model: str = "",
    count: int = POOL_SIZE,
) -> tuple[PreparedRequest, ...]:
    """Requests with tasks and sizes drawn by weight; texts are taken in order, round and round."""
    tasks = rng.choice(list(mix), count, p=_shares(mix))
    counts = rng.choice(list(sizes), count, p=_shares(sizes))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return tuple(
        prepare_one(str(task), [texts[(start + offset) % len(texts)] for offset in range(size)], model=model)
        for task, size, start in zip(tasks, counts, starts, strict=True)
    )


def prepare_one(task: str, texts: Sequence[str], *, model: str = "", kind: str = "") -> PreparedRequest:
    """One request of a task for these texts, counted under the task's name unless another is given."""
    call = TASKS[task].make(texts, model)
    return PreparedRequest(
        task=task,
        kind=kind or task,
        path=f"/{SERVICE}/{call.method}",
        message=call.request.SerializeToString(),
        texts=len(texts),
    )


def read_mix(text: str) -> dict[str, float]:
    """`embed=3,fill=1` as weights by task; a task without a weight has 1. Raises BenchError."""
    mix = _read_weights(text, "--mix", "=")
    if unknown := set(mix) - set(TASKS):
        raise BenchError(f"--mix: {', '.join(sorted(unknown))} is no task; there are {', '.join(TASKS)}")
    return mix


def read_sizes(text: str) -> dict[int, float]:
    """`1=9,16=1` as weights by number of texts in a request; a size without a weight has 1. Raises BenchError."""
    weights = _read_weights(text, "--sizes", "=")
    if not all(size.isdecimal() and int(size) > 0 for size in weights):
        raise BenchError(f"--sizes: {text!r} names a size that is no number of texts; write sizes as 1=9,16=1")
    return {int(size): weight for size, weight in weights.items()}


def _read_weights(text: str, flag: str, sign: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition(sign)
        try:
            weights[name] = float(weight) if weight else 1.0
        except ValueError as error:
            raise BenchError(f"{flag}: {part!r} has no weight that is a number; write NAME=WEIGHT,…") from error
        if not (name and 0 <= weights[name] < float("inf")):
            raise BenchError(f"{flag}: {part!r} lacks a name or a weight of zero or more; write NAME=WEIGHT,…")
    if not sum(weights.values()):
        raise BenchError(f"{flag}: {text!r} has no weight above zero")
    return weights


def _shares(weights: Mapping[str, float] | Mapping[int, float]) -> list[float]:
    total = sum(weights.values())
    return [weight / total for weight in weights.values()]
