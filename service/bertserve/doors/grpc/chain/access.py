"""Every call gets an id, which its log lines and its trailing metadata carry, and at level debug a line at its end."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from random import getrandbits
from typing import Any, cast

import grpc

from bertserve.doors.call import ANSWERED
from bertserve.doors.grpc.calls import METADATA, Context
from bertserve.doors.grpc.handlers import STREAM_STREAM, STREAM_UNARY, Handler, RespondStream, error_code, kind_of
from bertserve.doors.grpc.refusal import forget_frames
from bertserve.observe.logs import LOGGER, REQUEST_ID, log_detail

REQUEST_ID_KEY = "x-request-id"

# UUIDs, ULIDs, trace ids and the like. What is none of these is replaced: it would be the caller's text in our log.
WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class AccessLink:
    """Outermost, so that a call that another link refuses has its line too, and holds nothing any more."""

    def wrap(self, path: str, handler: Handler) -> Handler:
        kind = kind_of(handler, STREAM_UNARY, STREAM_STREAM)
        return _observe_unary(path, handler) if kind == STREAM_UNARY else _observe_stream(path, handler)


def _make_request_id() -> str:
    """Sixteen hexadecimal digits that tell calls apart; they keep no secret."""
    return f"{getrandbits(64):016x}"


def _observe_unary(method: str, handler: Handler) -> Handler:
    respond = cast("Any", handler.stream_unary)  # typed for synchronous servers

    async def observed(requests: AsyncIterator[Any], context: Context) -> Any:
        with _Call(method, context):
            return await respond(requests, context)

    return grpc.stream_unary_rpc_method_handler(observed, handler.request_deserializer, handler.response_serializer)


def _observe_stream(method: str, handler: Handler) -> Handler:
    respond: RespondStream = cast("Any", handler.stream_stream)

    async def observed(requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any]:
        with _Call(method, context):
            async with aclosing(respond(requests, context)) as responses:
                async for response in responses:
                    yield response

    return grpc.stream_stream_rpc_method_handler(observed, handler.request_deserializer, handler.response_serializer)


class _Call:
    """One call from its start to its line."""

    def __init__(self, method: str, context: Context) -> None:
        self._method = method
        self._context = context
        self._started = time.monotonic()
        given = METADATA.get().get(REQUEST_ID_KEY, "")
        REQUEST_ID.set(given if isinstance(given, str) and WELL_FORMED.fullmatch(given) else _make_request_id())
        context.set_trailing_metadata(((REQUEST_ID_KEY, REQUEST_ID.get()),))
        # Now, for gRPC frees the call of a stream that its caller left, and to ask it then ends the process.
        self._peer = context.peer() if LOGGER.isEnabledFor(logging.DEBUG) else ""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if LOGGER.isEnabledFor(logging.DEBUG):
            self._log_end(error)
        if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
            forget_frames(error)

    def _log_end(self, error: BaseException | None) -> None:
        answered = ANSWERED.get()
        if error is not None:
            self._log(error_code(error, self._context, time.monotonic() - self._started).name)
        elif answered is None:
            self._log("OK")
        else:
            stages = {name: round(seconds, 6) for name, seconds in asdict(answered.timings).items()}
            self._log("OK", model=answered.model, **stages)

    def _log(self, code: str, **fields: object) -> None:
        seconds = round(time.monotonic() - self._started, 6)
        log_detail("call", method=self._method, code=code, peer=self._peer, seconds=seconds, **fields)
