"""When a request is received: in turns, by what its connection sent before, and in one of a few places once it comes
slowly. `turns` decides whose turn it is; here are the clock and the waiting.

Nobody can tell a request's size before it has come. A small one comes whole with its headers, and its turn is over at
once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeAlias, cast

from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.intake.turns import Turns, Weights
from bertserve.errors import Overloaded, Undecodable

# What a client may send before the server asks for more: such a request costs no more memory than its headers did.
SMALL_BYTES = 64 * 1024

# A request that has not come whole by then needs a place among the slow ones; by the first, where others wait.
PROMPT_SECONDS = 0.05, 0.25

# One that has not by then never will.
SLOWEST_SECONDS = 60.0

# In line for a turn; each may have sent SMALL_BYTES meanwhile.
MOST_WAITING = 4096

RETRY_AFTER_SECONDS = 1.0

# For each place among the slow ones. A light caller's turn is over at once, unless he sends a large request after all.
LIGHT_TURNS = 4

# More at a time would come no sooner, and keep the event loop from others for longer.
HEAVY_TURNS = 2

# Large requests come no faster, together: it is many times what an engine can take, and a fraction of the loop's time.
LARGE_BYTES_PER_SECOND = 128 * 1024 * 1024

# And after what one does on the loop, none comes for so many times as long.
REST_PART = 1.0

Requests: TypeAlias = AsyncIterator[bytes]
LineOfTurns: TypeAlias = "Turns[asyncio.Future[None]]"


class Receiver:
    """Receives the one message of each unary call. places: for requests that come slowly. largest_bytes: of one."""

    def __init__(self, places: int, largest_bytes: int) -> None:
        self._largest_bytes = largest_bytes
        self.places = self._free_places = places
        self._weights = Weights(SMALL_BYTES)
        self._light_turns: LineOfTurns = Turns(LIGHT_TURNS * places)
        self._heavy_turns: LineOfTurns = Turns(HEAVY_TURNS)
        self._rests_until = 0.0

    async def receive(self, requests: Requests, context: Context) -> bytes:
        """Raises Overloaded where it comes slowly and there is no place for it, Undecodable where none comes."""
        caller = context.peer()
        turns = self._light_turns if self._weights.is_light(caller) else self._heavy_turns
        await _take_turn(turns, caller)
        slowness = _Slowness(self, turns)
        messages = cast("AsyncGenerator[bytes]", aiter(requests))
        try:
            request = await anext(messages)
        except StopAsyncIteration:
            raise Undecodable("a request is one message, none came") from None
        except asyncio.CancelledError:
            if slowness.refused:
                slowness.task.uncancel()
                self._weights.add(caller, self._largest_bytes)
                raise Overloaded(slowness.refused, RETRY_AFTER_SECONDS) from None
            raise
        else:
            self._weigh(caller, len(request))
            return request
        finally:
            slowness.end()
            # It holds the message, and stands in a circle with gRPC's receiver that only the garbage collector breaks.
            await messages.aclose()

    def _weigh(self, caller: str, size: int) -> None:
        self._weights.add(caller, size)
        if size > SMALL_BYTES:
            loop = asyncio.get_running_loop()
            self._rest(size / LARGE_BYTES_PER_SECOND)
            loop.call_soon(self._rest_after, loop.time())

    def _rest_after(self, begun: float) -> None:
        """In the loop's next round: decoding and reading a large request has held up the loop since."""
        self._rest(REST_PART * (asyncio.get_running_loop().time() - begun))

    def _rest(self, seconds: float) -> None:
        self._rests_until = max(asyncio.get_running_loop().time(), self._rests_until) + seconds

    def end_turn(self, turns: LineOfTurns) -> None:
        """Give it to the next in line; of the heavy, once what large ones cost lately is made up for."""
        loop = asyncio.get_running_loop()
        rest_seconds = self._rests_until - loop.time() if turns is self._heavy_turns else 0.0
        if rest_seconds > 0:
            loop.call_later(rest_seconds, self.end_turn, turns)
        else:
            _end_turn(turns)

    def take_place(self) -> bool:
        """Among the requests that come slowly; False where there is none."""
        if self._free_places == 0:
            return False
        self._free_places -= 1
        return True

    def give_place_back(self) -> None:
        self._free_places += 1


class _Slowness:
    """From the moment a request's turn comes: whether it turns out slow, and then whether it has a place."""

    def __init__(self, receiver: Receiver, turns: LineOfTurns) -> None:
        self.refused = ""  # or why
        self._receiver = receiver
        self._turns = turns
        self._has_place = False
        self.task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._timer = self._after(PROMPT_SECONDS[0], self._look)

    def end(self) -> None:
        self._timer.cancel()
        if self._has_place:
            self._receiver.give_place_back()
        else:
            self._receiver.end_turn(self._turns)

    def _look(self) -> None:
        if self._turns.waiting:
            self._find_place()
        else:
            self._timer = self._after(PROMPT_SECONDS[1] - PROMPT_SECONDS[0], self._find_place)

    def _find_place(self) -> None:
        self._has_place = self._receiver.take_place()
        if self._has_place:
            self._receiver.end_turn(self._turns)
            late = f"the request has not come whole after {SLOWEST_SECONDS:.0f} s; send less at a time"
            self._timer = self._after(SLOWEST_SECONDS, lambda: self._refuse(late))
        else:
            places = f"{self._receiver.places} of them may (the server's --pending-bytes by its --max-request-bytes)"
            self._refuse(f"the request comes slowly, and others do already: {places}")

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        self.task.cancel()

    def _after(self, seconds: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, then)


async def _take_turn(turns: LineOfTurns, caller: str) -> None:
    if turns.begin():
        return
    if turns.waiting >= MOST_WAITING:
        _make_room(turns, caller)
    turn = asyncio.get_running_loop().create_future()
    turns.wait(caller, turn)
    try:
        await turn
    except asyncio.CancelledError:
        if turn.cancelled():
            turns.leave(caller, turn)
        elif turn.exception() is None:
            _end_turn(turns)
        raise


def _make_room(turns: LineOfTurns, caller: str) -> None:
    crowded = Overloaded(f"too many requests are on their way: {turns.waiting} wait", RETRY_AFTER_SECONDS)
    turn = turns.make_room(caller)
    if turn is None:
        raise crowded
    if not turn.cancelled():
        turn.set_exception(crowded)


def _end_turn(turns: LineOfTurns) -> None:
    while (turn := turns.end()) is not None:
        if not turn.cancelled():  # its caller may have left without having been told yet
            turn.set_result(None)
            return
