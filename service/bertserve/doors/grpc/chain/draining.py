"""Counts the open calls of the services, and refuses new ones while the server drains."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, cast

import grpc

from bertserve.doors.grpc.calls import Context, when_done
from bertserve.doors.grpc.handlers import STREAM_STREAM, UNARY_UNARY, Handler, Respond, RespondStream, kind_of
from bertserve.drain import Drain, OpenCall
from bertserve.errors import EngineUnavailable
from bertserve.observe.metrics import Metrics


class DrainLink:
    """Lets calls of the services in until the drain refuses them. Health and reflection answer to the end."""

    def __init__(self, drain: Drain, metrics: Metrics, services: Iterable[str]) -> None:
        """services: full names."""
        self._drain = drain
        self._rejected = metrics.rejected.labels("", "draining")
        self._prefixes = tuple(f"/{service}/" for service in services)

    def wrap(self, path: str, handler: Handler) -> Handler:
        if not path.startswith(self._prefixes):
            return handler
        kind = kind_of(handler, UNARY_UNARY, STREAM_STREAM)
        return self._count_unary(handler) if kind == UNARY_UNARY else self._count_stream(handler)

    def _count_unary(self, handler: Handler) -> Handler:
        respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers

        async def counted(request: Any, context: Context) -> Any:
            call = self._enter(context)
            try:
                return await respond(request, context)
            finally:
                _leave_cancelled(call, context)

        return grpc.unary_unary_rpc_method_handler(counted, handler.request_deserializer, handler.response_serializer)

    def _count_stream(self, handler: Handler) -> Handler:
        respond: RespondStream = cast("Any", handler.stream_stream)

        async def counted(requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any]:
            call = self._enter(context)
            try:
                async with aclosing(respond(requests, context)) as responses:
                    async for response in responses:
                        yield response
            finally:
                _leave_cancelled(call, context)

        return grpc.stream_stream_rpc_method_handler(
            cast("Any", counted), handler.request_deserializer, handler.response_serializer
        )

    def _enter(self, context: Context) -> OpenCall:
        """Count the call in until its last byte is sent, which is later than the return of its handler."""
        try:
            call = self._drain.enter()
        except EngineUnavailable:
            self._rejected.inc()
            raise
        when_done(context, call.leave)
        return call


def _leave_cancelled(call: OpenCall, context: Context) -> None:
    """Count a cancelled call out: perhaps it was cancelled before the callback was there."""
    if context.cancelled():
        call.leave()
