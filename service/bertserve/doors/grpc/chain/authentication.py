"""Who may call: bearer tokens, before anything of the request is received."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, NoReturn, cast

import grpc

from bertserve.doors.grpc.calls import METADATA, Context
from bertserve.doors.grpc.handlers import STREAM_STREAM, STREAM_UNARY, Handler, RespondStream, kind_of
from bertserve.doors.grpc.refusal import count_refused
from bertserve.doors.tokens import Tokens
from bertserve.observe.metrics import Metrics

# Probes of a cluster have no token, and learn no more than whether the server serves.
OPEN_PREFIX = "/grpc.health.v1.Health/"


class TokenLink:
    """UNAUTHENTICATED without a valid token, for every method but those of health."""

    def __init__(self, tokens: Tokens, metrics: Metrics) -> None:
        self._tokens = tokens
        self._metrics = metrics

    def wrap(self, path: str, handler: Handler) -> Handler:
        kind = kind_of(handler, STREAM_UNARY, STREAM_STREAM)
        if path.startswith(OPEN_PREFIX):
            return handler
        return self._admit_unary(path, handler) if kind == STREAM_UNARY else self._admit_stream(path, handler)

    def _admit_unary(self, path: str, handler: Handler) -> Handler:
        respond = cast("Any", handler.stream_unary)  # typed for synchronous servers

        async def admitted(requests: AsyncIterator[Any], context: Context) -> Any:
            if not self._shows_token():
                await self._refuse(path, handler, context)
            return await respond(requests, context)

        return grpc.stream_unary_rpc_method_handler(
            cast("Any", admitted), handler.request_deserializer, handler.response_serializer
        )

    def _admit_stream(self, path: str, handler: Handler) -> Handler:
        respond: RespondStream = cast("Any", handler.stream_stream)

        async def admitted(requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any]:
            if not self._shows_token():
                await self._refuse(path, handler, context)
            async with aclosing(respond(requests, context)) as responses:
                async for response in responses:
                    yield response

        return grpc.stream_stream_rpc_method_handler(
            cast("Any", admitted), handler.request_deserializer, handler.response_serializer
        )

    def _shows_token(self) -> bool:
        return self._tokens.are_shown_by(METADATA.get().get("authorization"))

    async def _refuse(self, path: str, handler: Handler, context: Context) -> NoReturn:
        code = grpc.StatusCode.UNAUTHENTICATED
        count_refused(self._metrics, path, handler, code)
        await context.abort(code, "a valid bearer token is needed: authorization: Bearer TOKEN")
