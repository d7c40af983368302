"""One StreamAnalyze call: reads as long as little is unanswered, answers as results come, lets a bad input fail alone.

What is unanswered, by its caller's reading included, is bounded in tokens and in bytes of answers: a slow reader stops
the reading of his own stream, and nothing grows. Overload means waiting here, not failing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from bertapi.v1 import bert_service_pb2 as pb

from bertserve.doors.grpc.bert.responses import write_item_error
from bertserve.errors import DeadlinePassed, EngineUnavailable, RequestError
from bertserve.observe.logs import log_failure

# Of answers that wait for their caller; one larger answer goes alone.
WINDOW_BYTES = 16 * 1024 * 1024

DRAINING = "the server is draining; send the rest to another replica"

# What no single input is to blame for ends the stream.
ENDING = (EngineUnavailable, DeadlinePassed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An input that passed every check. response_bytes: an upper bound of the answer's size.

    answer: waits for its turn, and raises what went wrong after.
    """

    tokens: int
    response_bytes: int
    answer: Callable[[], Awaitable[pb.StreamAnalyzeResponse]]


class Stream:
    """accept: checks a request, and raises what its caller did wrong. draining: from when on nothing more is read."""

    def __init__(
        self,
        accept: Callable[[pb.StreamAnalyzeRequest], Awaitable[Accepted]],
        draining: asyncio.Event,
        window_tokens: int,
    ) -> None:
        """window_tokens: of what is unanswered; one longer text goes alone."""
        self._accept = accept
        self._window_tokens = window_tokens
        self._draining = draining
        self._answered: asyncio.Queue[tuple[pb.StreamAnalyzeResponse, int, int] | None] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._unanswered_tokens = self._unanswered_bytes = 0
        self._open: set[asyncio.Task[None]] = set()
        self._is_read = False
        self._failure: Exception | None = None
        self._reader: asyncio.Task[None] | None = None

    async def answers(
        self, requests: AsyncIterator[pb.StreamAnalyzeRequest]
    ) -> AsyncGenerator[pb.StreamAnalyzeResponse]:
        """Everything that was accepted is answered, then what ended the stream is raised: EngineUnavailable while
        draining or with a lost engine, DeadlinePassed, or what reading raised."""
        self._reader = reader = asyncio.create_task(self._read(requests))
        drain = asyncio.create_task(self._stop_on_drain(reader))
        try:
            while (answered := await self._answered.get()) is not None:
                response, tokens, response_bytes = answered
                yield response
                self._count(-tokens, -response_bytes)
        finally:
            tasks = (reader, drain, *self._open)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def _read(self, requests: AsyncIterator[pb.StreamAnalyzeRequest]) -> None:
        try:
            async for request in requests:
                await self._take(request)
                await self._has_room.wait()
        except asyncio.CancelledError:
            self._failure = self._failure or EngineUnavailable(DRAINING)
        except Exception as error:  # what is no message, say
            self._failure = self._failure or error
        finally:
            self._is_read = True
            self._end_if_done()

    async def _stop_on_drain(self, reader: asyncio.Task[None]) -> None:
        await self._draining.wait()
        reader.cancel()

    async def _take(self, request: pb.StreamAnalyzeRequest) -> None:
        try:
            accepted = await self._accept(request)
        except ENDING:
            raise
        except Exception as error:
            self._answered.put_nowait((_failed_alone(request.id, error), 1, 0))
            self._count(1, 0)
            return
        self._count(accepted.tokens, accepted.response_bytes)
        task = asyncio.create_task(self._answer(request.id, accepted))
        self._open.add(task)
        task.add_done_callback(self._close)

    async def _answer(self, request_id: str, accepted: Accepted) -> None:
        try:
            response = await accepted.answer()
        except ENDING as error:
            self._failure = self._failure or error
            if self._reader is not None:
                self._reader.cancel()
            return
        except Exception as error:
            response = _failed_alone(request_id, error)
        self._answered.put_nowait((response, accepted.tokens, accepted.response_bytes))

    def _close(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._is_read and not self._open:
            self._answered.put_nowait(None)

    def _count(self, tokens: int, response_bytes: int) -> None:
        self._unanswered_tokens += tokens
        self._unanswered_bytes += response_bytes
        if self._unanswered_tokens < self._window_tokens and self._unanswered_bytes < WINDOW_BYTES:
            self._has_room.set()
        else:
            self._has_room.clear()


def _failed_alone(request_id: str, error: Exception) -> pb.StreamAnalyzeResponse:
    if not isinstance(error, RequestError):  # a bug, or the engine: the caller learns nothing, the log all
        log_failure("an input of a stream failed", error)
    return write_item_error(request_id, error)
