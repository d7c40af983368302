"""Bytes to messages, and errors to statuses. A draining server refuses new calls here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from functools import lru_cache
from typing import Any, cast

import grpc

from bertserve.doors.drain import OpenCalls
from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.handlers import KEPT_HANDLERS, Continuation, Handler, Respond, RespondStream
from bertserve.doors.grpc.intake.decoding import FEW_FIELDS, decode
from bertserve.doors.grpc.intake.unread_responses import UnreadResponses
from bertserve.doors.grpc.refusal import abort
from bertserve.errors import EngineUnavailable, Overloaded
from bertserve.observe.metrics import Metrics

# Of the largest, or more of smaller ones: that many may wait for all callers together to read them.
UNREAD_ANSWERS = 4


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Decodes requests of our services, and turns every error into its status with details a program can read. Of all
    services, bounds the answers that wait to be read."""

    def __init__(
        self, open_calls: OpenCalls, metrics: Metrics, services: Iterable[str], max_inputs: int, max_response_bytes: int
    ) -> None:
        """services: full names. max_inputs: of a request. max_response_bytes: of an answer."""
        self._open_calls = open_calls
        self._metrics = metrics
        self._prefixes = tuple(f"/{service}/" for service in services)
        self._outbox = UnreadResponses(UNREAD_ANSWERS * max_response_bytes)
        self._most_fields = max(FEW_FIELDS, 2 * max_inputs)
        self._answer = lru_cache(KEPT_HANDLERS)(self._answer)  # type: ignore[method-assign]
        self._answer_health = lru_cache(KEPT_HANDLERS)(self._answer_health)  # type: ignore[method-assign]

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None:
            return None
        if str(details.method).startswith(self._prefixes):
            return self._answer(handler)
        return handler if handler.unary_unary is None else self._answer_health(handler)

    def _answer(self, handler: Handler) -> Handler:
        return self._answer_unary(handler) if handler.unary_unary is not None else self._answer_stream(handler)

    def _answer_unary(self, handler: Handler) -> Handler:
        respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers
        parse, write = handler.request_deserializer, cast("Any", handler.response_serializer)

        async def answered(request: bytes, context: Context) -> bytes:
            try:
                with self._entered(context):
                    answer: bytes = write(await respond(decode(parse, request, self._most_fields), context))
                    self._post(context, len(answer))
                    return answer
            except Exception as error:
                await abort(context, error)

        return grpc.unary_unary_rpc_method_handler(answered, None, None)

    def _answer_stream(self, handler: Handler) -> Handler:
        respond: RespondStream = cast("Any", handler.stream_stream)
        parse = handler.request_deserializer

        async def answered(requests: AsyncIterator[bytes], context: Context) -> AsyncGenerator[Any]:
            decoded = (decode(parse, request, self._most_fields) async for request in requests)
            try:
                with self._entered(context):
                    async with aclosing(respond(decoded, context)) as responses:
                        async for response in responses:
                            yield response
            except Exception as error:
                await abort(context, error)

        return grpc.stream_stream_rpc_method_handler(cast("Any", answered), None, handler.response_serializer)

    def _answer_health(self, handler: Handler) -> Handler:
        """Which is asked while the server drains too, and has statuses of its own."""
        respond: Respond = cast("Any", handler.unary_unary)

        async def answered(request: Any, context: Context) -> Any:
            answer = await respond(request, context)
            try:
                self._post(context, answer.ByteSize())
            except Overloaded as error:
                await abort(context, error)
            return answer

        return grpc.unary_unary_rpc_method_handler(answered, handler.request_deserializer, handler.response_serializer)

    @contextmanager
    def _entered(self, context: Context) -> Iterator[None]:
        """Count the call in, until its last byte is sent rather than until its handler returns."""
        try:
            leave = self._open_calls.enter()
        except EngineUnavailable:
            self._metrics.rejected.labels("", "draining").inc()
            raise
        _when_done(context, leave)
        try:
            yield
        finally:
            if context.cancelled():  # perhaps before the callback was there
                leave()

    def _post(self, context: Context, size: int) -> None:
        """Hold the room of an answer until its last byte is sent."""
        try:
            give_back = self._outbox.put(context.peer(), size)
        except Overloaded:
            self._metrics.rejected.labels("", "queue_full").inc()
            raise
        _when_done(context, give_back)
        if context.cancelled():
            give_back()


def _when_done(context: Context, then: Callable[[], None]) -> None:
    context.add_done_callback(cast("Any", lambda _: then()))
