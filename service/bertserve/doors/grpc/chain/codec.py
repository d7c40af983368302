"""Bytes to messages, and messages to bytes."""

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
from bertserve.doors.grpc.intake.decoding import decode


class CodecLink:
    """Decodes within the chain, so that a message that cannot be decoded is refused as every other error is."""

    def __init__(self, most_fields: int) -> None:
        """most_fields: of a request. One with more is refused before it is decoded."""
        self._most_fields = most_fields

    def wrap(self, path: str, handler: Handler) -> Handler:  # noqa: ARG002 - every method alike
        kind = kind_of(handler, UNARY_UNARY, UNARY_STREAM, STREAM_STREAM)
        if kind == UNARY_STREAM:
            return handler
        return self._code_unary(handler) if kind == UNARY_UNARY else self._code_stream(handler)

    def _code_unary(self, handler: Handler) -> Handler:
        respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers
        parse, write = handler.request_deserializer, cast("Any", handler.response_serializer)

        async def coded(request: bytes, context: Context) -> Any:
            return write(await respond(decode(parse, request, self._most_fields), context))

        return grpc.unary_unary_rpc_method_handler(coded, None, None)

    def _code_stream(self, handler: Handler) -> Handler:
        respond: RespondStream = cast("Any", handler.stream_stream)
        parse = handler.request_deserializer

        async def coded(requests: AsyncIterator[bytes], context: Context) -> AsyncGenerator[Any]:
            decoded = (decode(parse, request, self._most_fields) async for request in requests)
            async with aclosing(respond(decoded, context)) as responses:
                async for response in responses:
                    yield response

        return grpc.stream_stream_rpc_method_handler(cast("Any", coded), None, handler.response_serializer)
