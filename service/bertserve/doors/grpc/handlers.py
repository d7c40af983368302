"""What the links of the chain share: the kinds of handlers they wrap, and the status of a call that ended early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import grpc

from bertserve.deadlines import has_passed
from bertserve.doors.grpc.calls import Context

# Quoted: the classes take parameters in their stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Respond: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
RespondStream: TypeAlias = Callable[[AsyncIterator[Any], Context], AsyncGenerator[Any]]

# Kinds of handlers, by what they receive and what they send.
UNARY_UNARY = "unary_unary"
UNARY_STREAM = "unary_stream"
STREAM_UNARY = "stream_unary"
STREAM_STREAM = "stream_stream"


class Link(Protocol):
    """One layer around the handler of a method."""

    def wrap(self, path: str, handler: Handler) -> Handler:
        """Return a handler that does this link's work around `handler`. path: `/SERVICE/METHOD`.

        Called once for each method. Raises TypeError if the handler is of a kind that the link does not take.
        """


def kind_of(handler: Handler, *expected: str) -> str:
    """Return the kind of a handler. Raises TypeError if it is none of the expected kinds."""
    sides = (handler.request_streaming, handler.response_streaming)
    kind = "_".join("stream" if is_streaming else "unary" for is_streaming in sides)
    if kind not in expected:
        raise TypeError(f"a handler of kind {kind} stands where the chain expects {' or '.join(expected)}")
    return kind


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
