"""One client process: sends its part of a run, on time, and records what became of every call.

grpc.aio costs no more of the processor than grpc's own threads, and one thread sends, cancels and receives without a
lock. Nothing but the sending is done while calls are under way: requests were serialized before, garbage is collected
afterwards.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection

import grpc
import numpy as np

from bertbench.load.plan import ClientPart
from bertbench.load.records import Records
from bertbench.load.requests import PreparedRequest
from bertbench.load.tasks import TASKS
from bertbench.load.transports import Transport, connect

CONNECT_SECONDS = 10.0
PROGRESS_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The process is ready for the word to start: a moment of `time.monotonic`, which all processes share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """No connection came about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Counts so far, warm-up included."""

    sent: int = 0
    answered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """cpu_seconds: processor time of this process from the start of the run to its end, warm-up left out."""

    records: Records
    cpu_seconds: float


def main() -> None:
    """The process's whole life: take its part from the driver, connect, wait for the word, send, hand over the records.

    Its one argument is the number of an open file that leads to the driver.
    """
    driver = Connection(int(sys.argv[1]))
    # Where the driver is gone, nobody waits for the rest.
    with suppress(EOFError, BrokenPipeError):
        asyncio.run(_Client(driver.recv(), driver).live())


@dataclass(slots=True)
class _Client:
    part: ClientPart
    driver: Connection
    start: float = 0.0
    sent: int = 0
    answered: int = 0
    rows: list[tuple[float, float, float, int, str, int, int]] = field(default_factory=list)
    transport: Transport = field(init=False)

    async def live(self) -> None:
        part = self.part
        paths = {request.path for request in part.requests}
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    self.transport = await stack.enter_async_context(connect(part.target, paths, part.connections))
            except TimeoutError:
                self.driver.send(Unreachable())
                return
            self.driver.send(Connected())
            self.start = await asyncio.to_thread(self.driver.recv)
            await self._run()

    async def _run(self) -> None:
        gc.collect()
        gc.disable()
        reporting = asyncio.create_task(self._report())
        clock = asyncio.create_task(self._measure_processor_time())
        await (self._send_when_due() if self.part.moments is not None else self._send_when_answered())
        cpu_seconds = await clock
        reporting.cancel()
        self.driver.send(self._progress())
        self.driver.send(Finished(records=_as_records(self.rows), cpu_seconds=cpu_seconds))

    async def _send_when_due(self) -> None:
        calls = set()
        for number, moment in enumerate(self.part.moments.tolist()):  # type: ignore[union-attr]
            due = self.start + moment
            await _sleep_until(due)
            call = asyncio.create_task(self._call(due, number))
            calls.add(call)
            call.add_done_callback(calls.discard)
        if calls:
            await asyncio.wait(calls)

    async def _send_when_answered(self) -> None:
        await _sleep_until(self.start - self.part.warmup_seconds)
        numbers = count()
        end = self.start + self.part.seconds

        async def keep_calling() -> None:
            while (now := time.monotonic()) < end:
                await self._call(now, next(numbers))

        await asyncio.gather(*(keep_calling() for _ in range(self.part.callers)))

    async def _call(self, due: float, number: int) -> None:
        place = number % len(self.part.requests)
        request = self.part.requests[place]
        sent = time.monotonic()
        self.sent += 1
        cancel_after = self.part.cancel_after[place]
        tokens = 0
        try:
            async with asyncio.timeout(None if math.isnan(cancel_after) else cancel_after):
                status, answer = await self.transport.call(request, self.part.timeout_seconds)
            ended = time.monotonic()
        except TimeoutError:
            ended, status = time.monotonic(), grpc.StatusCode.CANCELLED
        if status is grpc.StatusCode.OK:
            tokens = _count_tokens(request, answer)
            self.answered += 1
        moments = due - self.start, sent - self.start, ended - self.start
        self.rows.append((*moments, status.value[0], request.kind, request.texts, tokens))

    async def _measure_processor_time(self) -> float:
        await _sleep_until(self.start)
        began = time.process_time()
        await _sleep_until(self.start + self.part.seconds)
        return time.process_time() - began

    async def _report(self) -> None:
        while True:
            self.driver.send(self._progress())
            await asyncio.sleep(PROGRESS_SECONDS)

    def _progress(self) -> Progress:
        return Progress(sent=self.sent, answered=self.answered, failed=len(self.rows) - self.answered)


async def _sleep_until(moment: float) -> None:
    if (remaining := moment - time.monotonic()) > 0:
        await asyncio.sleep(remaining)


def _count_tokens(request: PreparedRequest, answer: bytes) -> int:
    if request.tokens is not None:
        return request.tokens
    task = TASKS[request.task]
    return task.count_tokens(task.answer.FromString(answer))


def _as_records(rows: list[tuple[float, float, float, int, str, int, int]]) -> Records:
    intended, sent, ended, status, kind, texts, tokens = zip(*rows, strict=True) if rows else ((),) * 7
    return Records(
        intended=np.array(intended, dtype=np.float64),
        sent=np.array(sent, dtype=np.float64),
        ended=np.array(ended, dtype=np.float64),
        status=np.array(status, dtype=np.int64),
        kind=np.array(kind, dtype=np.str_),
        texts=np.array(texts, dtype=np.int64),
        tokens=np.array(tokens, dtype=np.int64),
    )
