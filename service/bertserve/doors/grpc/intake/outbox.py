"""Answers on their way: a caller may read his as slowly as he likes, and all of them lie here until they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from bertserve.errors import Overloaded

# What is smaller fits with its headers into what a caller takes unread, or nearly, unless he takes nothing at all.
SMALL_BYTES = 64 * 1024

# Of those that are smaller, all together.
SMALL_ROOM_BYTES = 64 * 1024 * 1024

# What is held of a call until it is over, beside its answer.
CALL_BYTES = 16 * 1024

RETRY_AFTER_SECONDS = 1.0


class Outbox:
    """Room for large answers, and room for small ones. A caller, which is a connection, may hold as much of it as he
    leaves free, so that there is always some for others."""

    def __init__(self, large_room_bytes: int) -> None:
        self._large = _Room(large_room_bytes, " (the server's --max-response-bytes sets the room)")
        self._small = _Room(SMALL_ROOM_BYTES)

    def put(self, caller: str, size: int) -> Callable[[], None]:
        """Take the room of an answer; what comes back gives it back, once. Raises Overloaded where there is none."""
        if size > SMALL_BYTES:
            return self._large.take(caller, size)
        return self._small.take(caller, size + CALL_BYTES)


class _Room:
    def __init__(self, room_bytes: int, remedy: str = "") -> None:
        self._free_bytes = room_bytes
        self._remedy = remedy
        self._held_bytes: Counter[str] = Counter()

    def take(self, caller: str, size: int) -> Callable[[], None]:
        if self._held_bytes[caller] + size > self._free_bytes - size:
            held = self._held_bytes[caller]
            self._forget(caller)
            raise Overloaded(
                f"too many answers wait for their callers to read them: this connection's have {held} bytes, this one "
                f"{size}, {self._free_bytes} are free{self._remedy}", RETRY_AFTER_SECONDS,
            )  # fmt: skip
        self._free_bytes -= size
        self._held_bytes[caller] += size
        held = size

        def give_back() -> None:
            nonlocal held
            self._free_bytes += held
            self._held_bytes[caller] -= held
            held = 0
            self._forget(caller)

        return give_back

    def _forget(self, caller: str) -> None:
        """Who holds nothing."""
        if self._held_bytes[caller] == 0:
            del self._held_bytes[caller]
