"""When a request is received: once its connection has a slot. `slots` decides; the clock and the waiting are here.

The size of a request is not known before it has come. A small request comes together with its headers and gives its
slot back at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc

from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.intake.slots import FairSlots
from bertserve.doors.grpc.intake.throttle import LargeRequestThrottle
from bertserve.doors.grpc.intake.windows import RETRY_AFTER_SECONDS, SMALL_BYTES
from bertserve.errors import Overloaded, Undecodable

# A request that is not complete by then needs a slow slot, or is rejected.
PROMPT_SECONDS = 0.25

# A request in a slow slot that is not complete by then is rejected.
SLOWEST_SECONDS = 60.0

# More requests of unknown or large size at a time would come no sooner, and block the event loop for longer.
SMALL_SLOTS, NEW_SLOTS, LARGE_SLOTS = 32, 2, 1

# Calls that wait for a slot of one kind. Each may have sent SMALL_BYTES; above it, the longest queue loses a call.
MAX_WAITING = 4096

# Connections whose sizes are remembered. Above it, the one that called longest ago counts as new again.
REMEMBERED_CONNECTIONS = 4096

Slots: TypeAlias = "FairSlots[asyncio.Future[None]]"


@dataclass(slots=True, eq=False)
class Reception:
    """One request on its way. slots: of which it has one, None if it gave that back. is_slow: it has a slow slot.

    rejection: why it is rejected if its time ends.
    """

    slots: Slots | None
    is_slow: bool = False
    rejection: str = ""


class Receiver:
    """Receives the one message of each unary call.

    Connections that sent small requests lately have slots of their own, and so have new connections, so that neither
    waits behind those that send large requests.
    """

    def __init__(self, slow_slots: int, largest_bytes: int) -> None:
        """slow_slots: requests that may come slowly at a time. largest_bytes: of a request."""
        self._largest_bytes = largest_bytes
        self._slow_slots = self._free_slow_slots = slow_slots
        self._small: Slots = FairSlots(SMALL_SLOTS, MAX_WAITING)
        # A flood of new connections delays a newcomer by one slot only: those that sent nothing yet wait behind it.
        self._new: Slots = FairSlots(NEW_SLOTS, MAX_WAITING, newest_first=True)
        self._large: Slots = FairSlots(LARGE_SLOTS, MAX_WAITING)
        self._throttle = LargeRequestThrottle()
        self._mean_bytes: OrderedDict[str, float] = OrderedDict()

    async def receive(self, context: Context) -> bytes:
        """Return the message of a call. Raise Overloaded if it comes too slowly, Undecodable if none comes."""
        connection = context.peer()
        slots = self._slots_of(connection)
        await _take_slot(slots, connection)
        reception = Reception(slots)
        try:
            async with asyncio.timeout(None) as limit:
                prompt = asyncio.get_running_loop().call_later(PROMPT_SECONDS, self._slow_down, reception, limit)
                try:
                    message = await context.read()
                finally:
                    prompt.cancel()
            return self._accept(message, connection)
        except TimeoutError:
            raise self._reject(connection, reception.rejection) from None
        finally:
            self._leave(reception)

    def _slow_down(self, reception: Reception, limit: asyncio.Timeout) -> None:
        """Give the slot of a request that comes slowly back. It has a slow slot until the limit, or none at all."""
        self._leave(reception)
        now = asyncio.get_running_loop().time()
        if self._free_slow_slots == 0:
            slots = f"{self._slow_slots} of them may (the server's --pending-bytes by its --max-request-bytes)"
            reception.rejection = f"the request comes slowly, and others do already: {slots}"
            limit.reschedule(now)
            return
        self._free_slow_slots -= 1
        reception.is_slow = True
        reception.rejection = f"the request has not come whole after {SLOWEST_SECONDS:.0f} s; send less at a time"
        limit.reschedule(now + SLOWEST_SECONDS)

    def _leave(self, reception: Reception) -> None:
        """Give back what it has: its slot, a slow slot, or nothing."""
        if reception.slots is not None:
            self._release(reception.slots)
            reception.slots = None
        if reception.is_slow:
            self._free_slow_slots += 1
            reception.is_slow = False

    def _accept(self, request: Any, connection: str) -> bytes:
        if request is grpc.aio.EOF:
            raise Undecodable("a request is one message, none came")
        self._remember(connection, len(request))
        if len(request) > SMALL_BYTES:
            self._throttle.add(len(request))
        return cast("bytes", request)

    def _reject(self, connection: str, reason: str) -> Overloaded:
        """Count a request that did not come as the largest one."""
        self._remember(connection, self._largest_bytes)
        return Overloaded(reason, RETRY_AFTER_SECONDS)

    def _slots_of(self, connection: str) -> Slots:
        mean_bytes = self._mean_bytes.get(connection)
        if mean_bytes is None:
            return self._new
        return self._small if mean_bytes <= SMALL_BYTES else self._large

    def _remember(self, connection: str, size: int) -> None:
        """Each request weighs half as much as the next one."""
        self._mean_bytes[connection] = (self._mean_bytes.get(connection, size) + size) / 2
        self._mean_bytes.move_to_end(connection)
        if len(self._mean_bytes) > REMEMBERED_CONNECTIONS:
            self._mean_bytes.popitem(last=False)

    def _release(self, slots: Slots) -> None:
        """Give a slot to the next waiter, as soon as the throttle allows a request that may be large."""
        seconds = 0.0 if slots is self._small else self._throttle.seconds_left()
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, self._release, slots)
        else:
            _give_back(slots)


async def _take_slot(slots: Slots, connection: str) -> None:
    if slots.take():
        return
    slot = asyncio.get_running_loop().create_future()
    dropped = slots.wait(connection, slot)
    if dropped is not None and not dropped.cancelled():
        reason = f"too many requests are on their way: {slots.waiting} wait"
        dropped.set_exception(Overloaded(reason, RETRY_AFTER_SECONDS))
    try:
        await slot
    except asyncio.CancelledError:
        if slot.cancelled():
            slots.leave(connection, slot)
        elif slot.exception() is None:
            _give_back(slots)
        raise


def _give_back(slots: Slots) -> None:
    while (slot := slots.give_back()) is not None:
        if not slot.cancelled():  # the client has left, and its call does not know yet
            slot.set_result(None)
            return
