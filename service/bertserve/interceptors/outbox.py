"""Answers on their way: a caller may read his as slowly as he likes, and all of them lie here until they are read."""

from __future__ import annotations

from collections.abc import Callable

from bertserve.errors import Overloaded

# What is smaller fits with its headers into what a caller takes unread, or nearly.
SMALL_BYTES = 64 * 1024

RETRY_AFTER_SECONDS = 1.0


class Outbox:
    """Room for answers above SMALL_BYTES, of all calls together."""

    def __init__(self, room_bytes: int) -> None:
        self._free_bytes = room_bytes

    def put(self, size: int) -> Callable[[], None]:
        """Take the room of an answer; what comes back gives it back, once. Raises Overloaded where there is none."""
        if size > self._free_bytes:
            raise Overloaded("too many large answers wait for their callers to read them", RETRY_AFTER_SECONDS)
        self._free_bytes -= size
        held = size

        def give_back() -> None:
            nonlocal held
            self._free_bytes += held
            held = 0

        return give_back
