"""Turns every error into its status, with details that a program can read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import grpc

from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.handlers import (
    STREAM_STREAM,
    UNARY_STREAM,
    UNARY_UNARY,
    Handler,
    Respond,
    RespondStream,
    kind_of,
)
from bertserve.doors.grpc.refusal import abort


class ErrorLink:
    """Ends a call with the status of what was raised within. A call that was aborted within keeps its status."""

    def wrap(self, path: str, handler: Handler) -> Handler:  # noqa: ARG002 - every method alike
        kind = kind_of(handler, UNARY_UNARY, UNARY_STREAM, STREAM_STREAM)
        if kind == UNARY_STREAM:
            return handler
        return _translate_unary(handler) if kind == UNARY_UNARY else _translate_stream(handler)


def _translate_unary(handler: Handler) -> Handler:
    respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers

    async def translated(request: Any, context: Context) -> Any:
        try:
            return await respond(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, error)

    return grpc.unary_unary_rpc_method_handler(translated, handler.request_deserializer, handler.response_serializer)


def _translate_stream(handler: Handler) -> Handler:
    respond: RespondStream = cast("Any", handler.stream_stream)

    async def translated(requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any]:
        try:
            async with aclosing(respond(requests, context)) as responses:
                async for response in responses:
                    yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(
        cast("Any", translated), handler.request_deserializer, handler.response_serializer
    )
