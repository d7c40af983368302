"""How requests are received: what is large or slow may take no more memory than there is for it.

gRPC bounds a message, not all of them together: some hundred connections that each send the largest one allowed would
take gigabytes. Small requests come whole with their headers, and are never held up or refused here.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any, cast

import grpc

from bertserve.errors import Overloaded, RequestError, Undecodable
from bertserve.interceptors import KEPT_HANDLERS, Context, Continuation, Handler, abort

# What a client may send before the server asks for more: such a request costs no more memory than its headers did.
SMALL_BYTES = 64 * 1024

# A request that has not come whole by then needs a place among the slow ones.
PROMPT_SECONDS = 0.25

# One that has not by then never will.
SLOWEST_SECONDS = 60.0

RETRY_AFTER_SECONDS = 1.0


class ReceptionInterceptor(grpc.aio.ServerInterceptor):
    """Outermost: it receives the request of every unary call itself, and hands it to what stands within."""

    def __init__(self, pending_bytes: int, max_request_bytes: int) -> None:
        """pending_bytes: of large requests that are being answered; as much again may be on its way."""
        self._free_bytes = pending_bytes
        self._free_places = max(1, pending_bytes // max_request_bytes)
        self._receive_for = lru_cache(KEPT_HANDLERS)(self._receive_for)  # type: ignore[method-assign]

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        return handler if handler is None or handler.unary_unary is None else self._receive_for(handler)

    def _receive_for(self, handler: Handler) -> Handler:
        respond = cast("Any", handler.unary_unary)  # typed for synchronous servers
        decode = handler.request_deserializer or _as_is

        async def received(requests: AsyncIterator[bytes], context: Context) -> Any:
            try:
                request = await self._receive(requests)
                held = self._hold(len(request))
            except RequestError as error:
                await abort(context, error)
            answer = respond(decode(request), context)
            del request
            try:
                return await answer
            except (grpc.aio.AbortError, asyncio.CancelledError) as error:
                _forget_frames(error)
                raise
            finally:
                self._free_bytes += held

        return grpc.stream_unary_rpc_method_handler(cast("Any", received), None, handler.response_serializer)

    async def _receive(self, requests: AsyncIterator[bytes]) -> bytes:
        """Raises Overloaded where it comes slowly and there is no place for it, Undecodable where none comes."""
        slowness = _Slowness(self)
        try:
            return await anext(requests)
        except StopAsyncIteration:
            raise Undecodable("a request is one message, none came") from None
        except asyncio.CancelledError:
            if slowness.refused:
                raise Overloaded("the request comes slowly, and others do already", RETRY_AFTER_SECONDS) from None
            raise
        finally:
            slowness.end()

    def take_place(self) -> bool:
        """Among the requests that come slowly; False where there is none."""
        if self._free_places == 0:
            return False
        self._free_places -= 1
        return True

    def give_place_back(self) -> None:
        self._free_places += 1

    def _hold(self, size: int) -> int:
        """Bytes to give back after the call. Raises Overloaded where a large request finds no room."""
        if size <= SMALL_BYTES:
            return 0
        if size > self._free_bytes:
            raise Overloaded("too many large requests are being answered; smaller ones pass", RETRY_AFTER_SECONDS)
        self._free_bytes -= size
        return size


class _Slowness:
    """From the moment a request begins to come: whether it turned out slow, and then whether it has a place."""

    def __init__(self, reception: ReceptionInterceptor) -> None:
        self.refused = False
        self._reception = reception
        self._has_place = False
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._timer = self._after(PROMPT_SECONDS, self._find_place)

    def end(self) -> None:
        self._timer.cancel()
        if self._has_place:
            self._reception.give_place_back()

    def _find_place(self) -> None:
        self._has_place = self._reception.take_place()
        if self._has_place:
            self._timer = self._after(SLOWEST_SECONDS, self._refuse)
        else:
            self._refuse()

    def _refuse(self) -> None:
        self.refused = True
        self._task.cancel()

    def _after(self, seconds: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, then)


def _forget_frames(error: BaseException) -> None:
    """Of a call that was refused, for they hold its request. gRPC's state of the call keeps the error, whose frames
    keep that state: the garbage collector would free them some gigabytes later."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__context__


def _as_is(request: bytes) -> bytes:
    return request
