"""Whose request is received next: pure, synchronous decisions. No clock, thread or loop inside.

Nobody can tell how large a request is before it has come, but what its connection sent before tells something: who has
been sending little gets turns that the others cannot take.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")

# Connections whose weight is kept; who is forgotten is a stranger again.
KEPT_CALLERS = 4096


class Weights:
    """What each connection sent lately, in bytes: every request weighs half as much as the next one."""

    def __init__(self, light_bytes: int) -> None:
        """light_bytes: up to which mean a connection is light; strangers and all others are heavy."""
        self._light_bytes = light_bytes
        self._means: OrderedDict[str, float] = OrderedDict()

    def is_light(self, caller: str) -> bool:
        return self._means.get(caller, self._light_bytes + 1) <= self._light_bytes

    def add(self, caller: str, size: int) -> None:
        self._means[caller] = (self._means.get(caller, size) + size) / 2
        self._means.move_to_end(caller)
        if len(self._means) > KEPT_CALLERS:
            self._means.popitem(last=False)


class Turns(Generic[Waiter]):
    """A number of turns, and the line for them: callers by turns, of each who came first, so that nobody waits longer
    for how many calls another one has."""

    def __init__(self, count: int) -> None:
        self._free = count
        self.waiting = 0
        # The next caller first. Waiters are keys in order, for whoever leaves stands anywhere.
        self._rows: OrderedDict[str, OrderedDict[Waiter, None]] = OrderedDict()

    def begin(self) -> bool:
        """Take a turn at once, where there is one."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def wait(self, caller: str, waiter: Waiter) -> None:
        """Stand in line."""
        self._rows.setdefault(caller, OrderedDict())[waiter] = None
        self.waiting += 1

    def leave(self, caller: str, waiter: Waiter) -> None:
        """Stand in line no more."""
        row = self._rows.get(caller)
        if row is not None and waiter in row:
            del row[waiter]
            self._shorten(caller)

    def end(self) -> Waiter | None:
        """Give a turn back. Returns who has it now, if anybody."""
        if not self._rows:
            self._free += 1
            return None
        caller, row = next(iter(self._rows.items()))
        waiter = row.popitem(last=False)[0]
        self._rows.move_to_end(caller)
        self._shorten(caller)
        return waiter

    def make_room(self, caller: str) -> Waiter | None:
        """For one more of this caller's. Returns who stands in line no more for that: the last of the caller who has
        most in line; None where nobody has more than this one."""
        longest = max(self._rows, key=lambda other: len(self._rows[other]), default=caller)
        if len(self._rows.get(longest, ())) <= len(self._rows.get(caller, ())):
            return None
        waiter = self._rows[longest].popitem()[0]
        self._shorten(longest)
        return waiter

    def _shorten(self, caller: str) -> None:
        self.waiting -= 1
        if not self._rows[caller]:
            del self._rows[caller]
