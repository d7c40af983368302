"""Room for answers that their clients have not read yet.

A client may read as slowly as it likes, and the server holds its answers until they are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from bertserve.doors.grpc.intake.windows import RETRY_AFTER_SECONDS, SMALL_BYTES
from bertserve.errors import Overloaded

# Room for all answers up to SMALL_BYTES. A client takes such an answer unread, unless it takes nothing at all.
SMALL_ROOM_BYTES = 64 * 1024 * 1024

# What the server holds of a call until it is over, beside its answer.
CALL_BYTES = 16 * 1024


class UnreadResponses:
    """Room for large answers, and room for small ones.

    A connection may hold as much of a room as it leaves free, so that some is always left for others.
    """

    def __init__(self, large_room_bytes: int) -> None:
        self._large = _Room(large_room_bytes, " (the server's --max-response-bytes sets the room)")
        self._small = _Room(SMALL_ROOM_BYTES)

    def put(self, connection: str, size: int) -> Callable[[], None]:
        """Take the room of an answer. Return what gives the room back, once. Raise Overloaded if there is none."""
        if size > SMALL_BYTES:
            return self._large.take(connection, size)
        return self._small.take(connection, size + CALL_BYTES)


class _Room:
    def __init__(self, room_bytes: int, remedy: str = "") -> None:
        self._free_bytes = room_bytes
        self._remedy = remedy
        self._held_bytes: Counter[str] = Counter()

    def take(self, connection: str, size: int) -> Callable[[], None]:
        held = self._held_bytes[connection]
        if held + size > self._free_bytes - size:
            self._hold(connection, 0)
            raise Overloaded(
                f"too many answers wait for their callers to read them: this connection's have {held} bytes, this one "
                f"{size}, {self._free_bytes} are free{self._remedy}", RETRY_AFTER_SECONDS,
            )  # fmt: skip
        self._hold(connection, size)
        taken = size

        def give_back() -> None:
            nonlocal taken
            self._hold(connection, -taken)
            taken = 0

        return give_back

    def _hold(self, connection: str, size: int) -> None:
        """Hold so many bytes more. A connection that holds nothing is forgotten."""
        self._free_bytes -= size
        self._held_bytes[connection] += size
        if self._held_bytes[connection] == 0:
            del self._held_bytes[connection]
