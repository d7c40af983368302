"""How soon another large request may come, so that large requests leave the event loop time for all others."""

from __future__ import annotations

import asyncio

# This is many times what an engine can take, and a fraction of the event loop's time.
LARGE_BYTES_PER_SECOND = 32 * 1024 * 1024

# Many slow requests that end together delay the next large one by no more than this.
LONGEST_SECONDS = 0.5


class LargeRequestThrottle:
    """After a large request, the next one starts no sooner than the time in which its bytes are due, plus the time for
    which reading it blocked the event loop."""

    def __init__(self) -> None:
        self._ready_at = 0.0

    def add(self, size: int) -> None:
        """Count a large request. Call it before the request is decoded, in the same step of the event loop."""
        loop = asyncio.get_running_loop()
        self._delay(size / LARGE_BYTES_PER_SECOND)
        loop.call_soon(self._add_blocked, loop.time())

    def seconds_left(self) -> float:
        """Until the next large request may start; 0 or less if it may start now."""
        return self._ready_at - asyncio.get_running_loop().time()

    def _add_blocked(self, begun: float) -> None:
        self._delay(asyncio.get_running_loop().time() - begun)

    def _delay(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self._ready_at = min(max(now, self._ready_at) + seconds, now + LONGEST_SECONDS)
