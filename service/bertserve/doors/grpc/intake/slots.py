"""Slots that connections share fairly: pure, synchronous decisions. No clock, thread or loop inside."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")


class FairSlots(Generic[Waiter]):
    """A number of slots, and the waiters for them, round robin by connection.

    A connection with many waiters delays another connection's waiter by one slot a round, however many they are.
    """

    def __init__(self, count: int, max_waiting: int, *, newest_first: bool = False) -> None:
        """max_waiting: of all connections together. Above it, the longest queue loses its newest waiter.
        newest_first: a connection that begins to wait goes before those that wait already."""
        self._free = count
        self._max_waiting = max_waiting
        self._newest_first = newest_first
        self.waiting = 0
        # The connection whose turn is next comes first. A waiter may leave from any place, so waiters are ordered keys.
        self._queues: OrderedDict[str, OrderedDict[Waiter, None]] = OrderedDict()

    def take(self) -> bool:
        """Take a free slot. Return False if there is none."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def wait(self, connection: str, waiter: Waiter) -> Waiter | None:
        """Add a waiter to its connection's queue. Return the waiter that was dropped for it, perhaps itself, or None.

        Call it only after `take` has returned False.
        """
        if connection not in self._queues:
            self._queues[connection] = OrderedDict()
            self._queues.move_to_end(connection, last=not self._newest_first)
        self._queues[connection][waiter] = None
        self.waiting += 1
        if self.waiting <= self._max_waiting:
            return None
        longest = max(self._queues, key=lambda other: (len(self._queues[other]), other != connection))
        dropped = next(reversed(self._queues[longest]))
        self.leave(longest, dropped)
        return dropped

    def leave(self, connection: str, waiter: Waiter) -> None:
        """Remove a waiter if it still waits."""
        queue = self._queues.get(connection, OrderedDict())
        if waiter in queue:
            del queue[waiter]
            self.waiting -= 1
            if not queue:
                del self._queues[connection]

    def give_back(self) -> Waiter | None:
        """Give a slot back. Return the waiter that has it now, or None if nobody waits."""
        if not self._queues:
            self._free += 1
            return None
        connection, queue = next(iter(self._queues.items()))
        waiter = next(iter(queue))
        self._queues.move_to_end(connection)
        self.leave(connection, waiter)
        return waiter
