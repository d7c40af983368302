"""One StreamAnalyze call: reads as long as little is unanswered, answers as results come, lets a bad input fail alone.

What is unanswered, by its caller's reading included, is bounded in tokens and in bytes of answers: a slow reader stops
the reading of his own stream, and nothing grows. Overload means waiting here, not failing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

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


class Window:
    """What one stream may have unanswered. It is full once either bound is reached, so one larger answer goes alone."""

    def __init__(self, tokens: int, answer_bytes: int) -> None:
        self._free_tokens = tokens
        self._free_bytes = answer_bytes
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def wait_for_room(self) -> None:
        await self._has_room.wait()

    def take(self, tokens: int, answer_bytes: int) -> None:
        self._free_tokens -= tokens
        self._free_bytes -= answer_bytes
        if self._free_tokens > 0 and self._free_bytes > 0:
            self._has_room.set()
        else:
            self._has_room.clear()

    def give_back(self, tokens: int, answer_bytes: int) -> None:
        self.take(-tokens, -answer_bytes)


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
        self._draining = draining
        self._window = Window(window_tokens, WINDOW_BYTES)
        # Answers with the room that they hold; None behind the last one.
        self._answered: asyncio.Queue[tuple[pb.StreamAnalyzeResponse, int, int] | None] = asyncio.Queue()
        self._open: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._reason: BaseException | None = None

    async def answers(
        self, requests: AsyncIterator[pb.StreamAnalyzeRequest]
    ) -> AsyncGenerator[pb.StreamAnalyzeResponse]:
        """Everything that was accepted is answered, then what ended the stream is raised: EngineUnavailable while
        draining or with a lost engine, DeadlinePassed, or what reading raised."""
        self._reader = reader = self._start(self._read(requests))
        drain = asyncio.create_task(self._stop_when_draining())
        try:
            while (answered := await self._answered.get()) is not None:
                response, tokens, response_bytes = answered
                yield response
                self._window.give_back(tokens, response_bytes)
        finally:
            tasks = (reader, drain, *self._open)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._reason is not None:
            raise self._reason

    def _stop(self, reason: BaseException) -> None:
        """Read nothing more. The first reason is raised once everything that was accepted is answered."""
        self._reason = self._reason or reason
        if self._reader is not None:
            self._reader.cancel()

    async def _stop_when_draining(self) -> None:
        await self._draining.wait()
        self._stop(EngineUnavailable(DRAINING))

    async def _read(self, requests: AsyncIterator[pb.StreamAnalyzeRequest]) -> None:
        try:
            async for request in requests:
                await self._take(request)
                await self._window.wait_for_room()
        except (Exception, asyncio.CancelledError) as error:  # a message that is none, for example
            self._reason = self._reason or error

    async def _take(self, request: pb.StreamAnalyzeRequest) -> None:
        try:
            accepted = await self._accept(request)
        except ENDING:
            raise
        except Exception as error:
            self._window.take(1, 0)
            self._answered.put_nowait((_failed_alone(request.id, error), 1, 0))
            return
        self._window.take(accepted.tokens, accepted.response_bytes)
        self._start(self._answer(request.id, accepted))

    async def _answer(self, request_id: str, accepted: Accepted) -> None:
        try:
            response = await accepted.answer()
        except ENDING as error:
            self._stop(error)
            return
        except Exception as error:
            response = _failed_alone(request_id, error)
        self._answered.put_nowait((response, accepted.tokens, accepted.response_bytes))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task without which the stream is not over: the reader, and every answer on its way."""
        task = asyncio.create_task(work)
        self._open.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not self._open:
            self._answered.put_nowait(None)


def _failed_alone(request_id: str, error: Exception) -> pb.StreamAnalyzeResponse:
    if not isinstance(error, RequestError):  # a bug, or the engine: the caller learns nothing, the log all
        log_failure("an input of a stream failed", error)
    return write_item_error(request_id, error)
