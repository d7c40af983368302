"""What interceptors share: the kinds of handlers they wrap, and the status of a call that ended with an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from bertserve.deadlines import has_passed
from bertserve.doors.grpc.calls import Context

# Quoted: the classes take parameters in their stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Respond: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
RespondStream: TypeAlias = Callable[[AsyncIterator[Any], Context], AsyncGenerator[Any]]

# Wrapped handlers kept, for a call need not wrap its method's anew; there are as many as methods.
KEPT_HANDLERS = 64


def error_code(error: BaseException, context: Context, seconds: float) -> grpc.StatusCode:
    """The status of a call that ended with an error after so long."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        remaining = context.time_remaining()
        is_late = remaining is not None and has_passed(remaining, seconds)
        return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
    return _aborted_with(context) or grpc.StatusCode.UNKNOWN


def _aborted_with(context: Context) -> grpc.StatusCode | None:
    code = context.code()
    if code is None or isinstance(code, grpc.StatusCode):
        return code
    return next((status for status in grpc.StatusCode if status.value[0] == code), None)
