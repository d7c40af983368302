"""What all calls together may hold: large requests that are being answered take no more memory than there is for them,
and streams are counted.

gRPC bounds a message, not all of them together: some hundred connections that each send the largest one allowed would
take gigabytes, and the event loop's time for as long as it copies them. So requests are received in turns, by
`receiver`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any, NoReturn, cast

import grpc

from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.handlers import STREAM_STREAM, UNARY_STREAM, UNARY_UNARY, Handler, kind_of
from bertserve.doors.grpc.intake.decoding import parse
from bertserve.doors.grpc.intake.receiver import RETRY_AFTER_SECONDS, SMALL_BYTES, Receiver, Requests
from bertserve.doors.grpc.refusal import abort, count_refused
from bertserve.doors.grpc.statuses import find_code
from bertserve.errors import InvalidInput, Overloaded, RequestError, Undecodable
from bertserve.observe.metrics import Metrics


class ReceptionLink:
    """Receives the request of every unary call itself, and hands it to what stands within. What stands further out sees
    calls whose requests are yet to be received, be it one or a stream."""

    def __init__(
        self, pending_bytes: int, max_request_bytes: int, max_open_streams: int, max_watches: int, metrics: Metrics
    ) -> None:
        """pending_bytes: of large requests that are being answered; as much again may be on its way, and again as much
        on its way slowly. max_watches: of the health, which have no end."""
        self._metrics = metrics
        # Of no model, for which one a request is has not been read yet.
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
        return self._bound_stream(path, handler)

    async def _refuse(self, path: str, handler: Handler, context: Context, error: RequestError) -> NoReturn:
        if isinstance(error, Overloaded):
            self._rejected.inc()
        count_refused(self._metrics, path, handler, find_code(error))
        await abort(context, error)

    def _receive_unary(self, path: str, handler: Handler) -> Handler:
        respond = cast("Any", handler.unary_unary)  # typed for synchronous servers
        decode = partial(parse, handler.request_deserializer)

        async def received(requests: Requests, context: Context) -> Any:
            try:
                request = await self._receiver.receive(requests, context)
                message, held = decode(request), self._hold(len(request))
            except RequestError as error:
                await self._refuse(path, handler, context, error)
            answer = respond(message, context)
            del request, message
            try:
                return await answer
            finally:
                self._free_bytes += held

        return grpc.stream_unary_rpc_method_handler(cast("Any", received), None, handler.response_serializer)

    def _receive_watch(self, handler: Handler) -> Handler:
        """Health's, which nobody has to be let in for. They are counted too, apart from streams: who may call shall
        not have to wait for who only watches."""
        respond = cast("Any", handler.unary_stream)
        decode = partial(parse, handler.request_deserializer)

        async def received(requests: Requests, context: Context) -> AsyncGenerator[Any]:
            try:
                request = decode(await self._receiver.receive(requests, context))
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

    def _bound_stream(self, path: str, handler: Handler) -> Handler:
        """A stream may wait for its next message as long as it likes, so that streams cannot take turns: they are
        counted instead."""
        respond = cast("Any", handler.stream_stream)
        parser = handler.request_deserializer

        async def received(requests: Requests, context: Context) -> AsyncGenerator[Any]:
            if self._free_streams == 0:
                reason = f"too many streams are open: all {self._max_streams} of the server's --max-open-streams"
                error = Overloaded(reason, RETRY_AFTER_SECONDS)
                await self._refuse(path, handler, context, error)
            self._free_streams -= 1
            messages = cast("AsyncGenerator[bytes]", aiter(requests))
            # Our own services decode theirs, and tell their callers what is none.
            decoded = messages if parser is None else (parse(parser, message) async for message in messages)
            try:
                async with aclosing(respond(decoded, context)) as responses:
                    async for response in responses:
                        yield response
            except Undecodable as error:
                await abort(context, error)
            finally:
                self._free_streams += 1
                await messages.aclose()  # as of a unary request

        return grpc.stream_stream_rpc_method_handler(cast("Any", received), None, handler.response_serializer)

    def _hold(self, size: int) -> int:
        """Bytes to give back after the call. Raises Overloaded if a large request finds no room now, InvalidInput if
        it never will."""
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
