"""What every service needs to know of a call: its deadline, and how its caller names the field that is at fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from bertserve.errors import InvalidInput
from bertserve.metrics import Metrics

# Quoted: the class takes parameters in its stubs only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


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
