"""The calls under way, so that a leaving server knows when the last one is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bertserve.errors import EngineUnavailable


class OpenCalls:
    """Calls of our services under way, and whether new ones are still wanted (`is_leaving`) and let in (`draining`)."""

    def __init__(self) -> None:
        self.count = 0
        self.is_leaving = False
        self.draining = asyncio.Event()
        self._last_change = time.monotonic()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def enter(self) -> Callable[[], None]:
        """Count a call in; what comes back counts it out, once. Raises EngineUnavailable while draining."""
        self._last_change = time.monotonic()
        if self.draining.is_set():
            raise EngineUnavailable("the server is draining; call another replica")
        self.count += 1
        self._none_left.clear()
        is_open = True

        def leave() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self.count -= 1
                self._last_change = time.monotonic()
                if self.count == 0:
                    self._none_left.set()

        return leave

    async def wait_for_none(self, timeout_seconds: float) -> bool:
        """Whether all calls ended in time."""
        try:
            await asyncio.wait_for(self._none_left.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    async def wait_for_quiet(self, quiet_seconds: float, timeout_seconds: float) -> None:
        """Until no call has come or ended for a while, so that what is on its way is still refused by status, and who
        still sends, as a stream's caller does, hears how his call ended: a closed connection would be all he sees.

        gRPC cancels calls that a stopping server received but did not accept yet, and CANCELLED is not retried
        (grpc/grpc issue 41785).
        """
        ends = time.monotonic() + timeout_seconds
        # Every call moves the end, so that no single event says when it has come.
        while (left := min(ends, self._last_change + quiet_seconds) - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
