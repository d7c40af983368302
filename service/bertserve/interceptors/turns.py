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
    """A number of turns, and the line for them, first come first served."""

    def __init__(self, count: int) -> None:
        self._free = count
        # Keys in order, for whoever leaves stands anywhere.
        self._line: OrderedDict[Waiter, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        return len(self._line)

    def begin(self) -> bool:
        """Take a turn at once, where there is one."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def wait(self, waiter: Waiter) -> None:
        """Stand in line."""
        self._line[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """Stand in line no more."""
        self._line.pop(waiter, None)

    def end(self) -> Waiter | None:
        """Give a turn back. Returns who has it now, if anybody."""
        if self._line:
            return self._line.popitem(last=False)[0]
        self._free += 1
        return None
