"""What is known of a call: metadata, deadline, how its caller names a field at fault, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import grpc

from bertserve.errors import InvalidInput
from bertserve.observe.metrics import Metrics
from bertserve.tasks.answers import Timings

# Quoted: the class takes parameters in its stubs only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Which model answered, and how long each stage took. started: when its service took the call up, by
    `time.monotonic`."""

    model: str
    started: float
    timings: Timings


# Set by a service within its call, read by the links around it; None if no model was asked.
ANSWERED: ContextVar[Answered | None] = ContextVar("answered", default=None)


# Metadata of the call under way. Set by the chain before its links.
METADATA: ContextVar[Mapping[str, str | bytes]] = ContextVar("metadata", default=MappingProxyType({}))


def when_done(context: Context, then: Callable[[], None]) -> None:
    """Call `then` once the call is over: its last byte is sent, or it was cancelled."""
    context.add_done_callback(cast("Any", lambda _: then()))


def deadline_of(context: Context) -> float | None:
    """By `time.monotonic`; None where the caller set none."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


class FieldNames:
    """Translates the field of an InvalidInput into the caller's terms, and counts refusals of what cannot be served."""

    def __init__(self, name: Callable[[str], str], model: str, metrics: Metrics) -> None:
        """name: what the caller calls a field of the ask."""
        self._name, self._model, self._metrics = name, model, metrics

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidInput):
            self._metrics.rejected.labels(self._model, "invalid").inc()
            raise InvalidInput(self._name(error.violation.field), error.violation.description) from error
