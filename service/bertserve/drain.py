"""How a server leaves without losing a call: the stage it has come to, and the calls that are still open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import IntEnum

from bertserve.errors import EngineUnavailable
from bertserve.observe.logs import log

# Before the doors close: how long no call may have come or ended, and how long to wait for that at most.
QUIET_SECONDS = 0.1
QUIET_TIMEOUT_SECONDS = 2.0


class Stage(IntEnum):
    """How far a server has come on its way out. It never goes back."""

    SERVING = 0
    #: Load balancers are told that the server leaves. New calls are still served.
    ANNOUNCED = 1
    #: New calls are refused. Accepted calls run to their end.
    REFUSING = 2
    #: No call is left that must be answered. The doors may close.
    STOPPED = 3


class OpenCall:
    """A call that was let in. It counts as open until `leave` is called, or until the end of a `with` block."""

    __slots__ = ("_drain", "_is_open")

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._is_open = True

    def leave(self) -> None:
        """Count the call out. A second time changes nothing."""
        if self._is_open:
            self._is_open = False
            self._drain.count_out()

    def __enter__(self) -> OpenCall:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.leave()


class Drain:
    """Counts the open calls of all doors, and walks through the stages. Lives on the event loop."""

    def __init__(self) -> None:
        self.refusing = asyncio.Event()  #: Set from REFUSING on, for calls that have no end of their own.
        self._stage = Stage.SERVING
        self._open_count = 0
        self._last_change = time.monotonic()
        self._all_ended = asyncio.Event()
        self._all_ended.set()
        self._watchers: list[Callable[[Stage], None]] = []

    @property
    def stage(self) -> Stage:
        return self._stage

    @property
    def open_count(self) -> int:
        """Return how many calls are open."""
        return self._open_count

    def watch(self, tell: Callable[[Stage], None]) -> None:
        """Call `tell` at every new stage, as soon as it begins."""
        self._watchers.append(tell)

    def enter(self) -> OpenCall:
        """Count a call in. Raises EngineUnavailable from REFUSING on."""
        self._last_change = time.monotonic()
        if self._stage >= Stage.REFUSING:
            raise EngineUnavailable("the server is draining; call another replica")
        self._open_count += 1
        self._all_ended.clear()
        return OpenCall(self)

    def count_out(self) -> None:
        """Count one call less. `OpenCall.leave` is the only caller."""
        self._open_count -= 1
        self._last_change = time.monotonic()
        if self._open_count == 0:
            self._all_ended.set()

    async def leave(self, pause_seconds: float, grace_seconds: float) -> None:
        """Walk from SERVING to STOPPED. Call it once.

        pause_seconds: how long the server goes on serving after it is announced that it leaves. grace_seconds: how long
        accepted calls may take after that.
        """
        log("draining", open_calls=self._open_count)
        self._begin(Stage.ANNOUNCED)
        await asyncio.sleep(pause_seconds)
        self._begin(Stage.REFUSING)
        if not await self.wait_until_ended(grace_seconds):
            log("grace is over", open_calls=self._open_count)
        await self._wait_until_quiet()
        self._begin(Stage.STOPPED)

    async def wait_until_ended(self, timeout_seconds: float) -> bool:
        """Return whether all open calls ended in time."""
        try:
            await asyncio.wait_for(self._all_ended.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    def _begin(self, stage: Stage) -> None:
        self._stage = stage
        if stage is Stage.REFUSING:
            self.refusing.set()
        for tell in self._watchers:
            tell(stage)

    async def _wait_until_quiet(self) -> None:
        """Wait until no call has come or ended for a while. Until then the server goes on answering with a status.

        A client that is still sending, on a stream for example, then learns how its call ended instead of seeing a
        closed connection. gRPC cancels calls that a stopping server received but did not accept yet, and clients do
        not retry CANCELLED (grpc/grpc issue 41785).
        """
        ends = time.monotonic() + QUIET_TIMEOUT_SECONDS
        # Every call moves the end, so no single event tells that it has come.
        while (left := min(ends, self._last_change + QUIET_SECONDS) - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
