"""What all calls together may hold: requests are received in slots, large ones that are being answered share a room,
and streams and health watches are counted.

gRPC limits one message, not all messages together. A few hundred connections that each send the largest one would take
gigabytes, and the event loop's time for as long as it copies them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any, NoReturn, cast

import grpc

from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.handlers import STREAM_STREAM, UNARY_STREAM, UNARY_UNARY, Handler, kind_of
from bertserve.doors.grpc.intake.decoding import parse
from bertserve.doors.grpc.intake.receiver import Receiver
from bertserve.doors.grpc.intake.windows import RETRY_AFTER_SECONDS, SMALL_BYTES
from bertserve.doors.grpc.refusal import abort, count_refused
from bertserve.doors.grpc.statuses import find_code
from bertserve.errors import InvalidInput, Overloaded, RequestError
from bertserve.observe.metrics import Metrics


class ReceptionLink:
    """Receives the request of every unary call, and hands it to the links within.

    For the links outside, every call is a stream whose requests have yet to be received.
    """

    def __init__(
        self, pending_bytes: int, max_request_bytes: int, max_open_streams: int, max_watches: int, metrics: Metrics
    ) -> None:
        """pending_bytes: of large requests that are being answered. As much again may come slowly at a time.
        max_watches: open calls of Health.Watch."""
        self._metrics = metrics
        # The model label is empty: the request has not been parsed, so its model is not known yet.
        self._rejected = metrics.rejected.labels("", "queue_full")
        self._pending_bytes = self._free_bytes = pending_bytes
        self._receiver = Receiver(max(1, pending_bytes // max_request_bytes), max_request_bytes)
        self._max_streams = self._free_streams = max_open_streams
        self._max_watches = self._free_watches = max_watches

    def wrap(self, path: str, handler: Handler) -> Handler:
        kind = kind_of(handler, UNARY_UNARY, UNARY_STREAM, STREAM_STREAM)
        if kind == UNARY_UNARY:
            return self._receive_unary(path, handler)
        if kind == UNARY_STREAM:
            return self._receive_watch(handler)
        return self._count_stream(path, handler)

    async def _refuse(self, path: str, handler: Handler, context: Context, error: RequestError) -> NoReturn:
        if isinstance(error, Overloaded):
            self._rejected.inc()
        count_refused(self._metrics, path, handler, find_code(error))
        await abort(context, error)

    def _receive_unary(self, path: str, handler: Handler) -> Handler:
        respond = cast("Any", handler.unary_unary)  # typed for synchronous servers

        async def received(_: object, context: Context) -> Any:
            try:
                request = await self._receiver.receive(context)
                held = self._hold(len(request))
            except RequestError as error:
                await self._refuse(path, handler, context, error)
            answer = respond(request, context)
            del request
            try:
                return await answer
            finally:
                self._free_bytes += held

        return grpc.stream_unary_rpc_method_handler(cast("Any", received), None, handler.response_serializer)

    def _receive_watch(self, handler: Handler) -> Handler:
        """Limit calls of Health.Watch, which need no token.

        They have a limit of their own, so that watchers cannot use up the places of authenticated streams.
        """
        respond = cast("Any", handler.unary_stream)
        decode = partial(parse, handler.request_deserializer)

        async def received(_: object, context: Context) -> AsyncGenerator[Any]:
            try:
                request = decode(await self._receiver.receive(context))
                if self._free_watches == 0:
                    raise Overloaded(
                        f"too many watches of the health are open: all {self._max_watches} that the server's "
                        "--max-connections allow", RETRY_AFTER_SECONDS,
                    )  # fmt: skip
            except RequestError as error:
                await abort(context, error)
            self._free_watches -= 1
            watched = respond(request, context)
            del request
            try:
                async with aclosing(watched) as responses:
                    async for response in responses:
                        yield response
            finally:
                self._free_watches += 1

        return grpc.stream_stream_rpc_method_handler(cast("Any", received), None, handler.response_serializer)

    def _count_stream(self, path: str, handler: Handler) -> Handler:
        """Limit open streams. A stream may wait for its next message as long as it likes, so it takes no slot."""
        respond = cast("Any", handler.stream_stream)

        async def received(requests: AsyncIterator[bytes], context: Context) -> AsyncGenerator[Any]:
            if self._free_streams == 0:
                reason = f"too many streams are open: all {self._max_streams} of the server's --max-open-streams"
                error = Overloaded(reason, RETRY_AFTER_SECONDS)
                await self._refuse(path, handler, context, error)
            self._free_streams -= 1
            messages = cast("AsyncGenerator[bytes]", aiter(requests))
            try:
                async with aclosing(respond(messages, context)) as responses:
                    async for response in responses:
                        yield response
            finally:
                self._free_streams += 1
                # The generator holds a message, and gRPC's receiver and it refer to each other: only the garbage
                # collector would free them.
                await messages.aclose()

        return grpc.stream_stream_rpc_method_handler(cast("Any", received), None, handler.response_serializer)

    def _hold(self, size: int) -> int:
        """Return the bytes to give back after the call. Raise Overloaded if a large request finds no room now,
        InvalidInput if it never will."""
        if size <= SMALL_BYTES:
            return 0
        if size > self._pending_bytes:
            allowed = f"the server takes {self._pending_bytes} (its --pending-bytes)"
            raise InvalidInput("inputs", f"the request has {size} bytes, {allowed}; send fewer inputs at a time")
        if size > self._free_bytes:
            raise Overloaded(
                f"too many large requests are being answered: they have {self._pending_bytes - self._free_bytes} "
                f"bytes, this one {size}, all together may have {self._pending_bytes} (the server's --pending-bytes); "
                f"requests up to {SMALL_BYTES} bytes pass", RETRY_AFTER_SECONDS,
            )  # fmt: skip
        self._free_bytes -= size
        return size
