"""Calls of methods that are not served: UNIMPLEMENTED, whatever bytes their names are.

grpc.aio reads the name of such a method as UTF-8, in the loop that accepts every call: one name that is none would end
the whole server (grpcio 1.85, `_server_main_loop`). What is served is asked for by its own name and never read. So the
other calls are answered here, unread, and that loop does not see them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio._server import Server


class ReadingNoNames(Server):
    """grpc.aio's server. Serves registered methods only, as generated code adds them."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = _Acceptor(self._loop, None, (), tuple(interceptors), tuple(options), None)


class _Acceptor(cygrpc.AioServer):  # type: ignore[misc]  # has no stubs
    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """What the loop waits for: the next call of a method, or where it is None of any that is not served."""
        if method is not None:
            return super()._make_request_call_future(method)  # type: ignore[no-any-return]
        return asyncio.get_running_loop().create_task(self._refuse_unserved())

    async def _refuse_unserved(self) -> None:
        """Ends by gRPC's own error when the server stops."""
        loop = asyncio.get_running_loop()
        served = cygrpc._MethodResolver([], {})  # noqa: SLF001 - nothing of it
        refusals = set()
        while True:
            call = await self._request_call()
            handling = cygrpc._handle_rpc("", served, (), call, loop, False)  # noqa: SLF001
            refusal = loop.create_task(cygrpc._schedule_rpc_coro(handling, call, loop, ""))  # noqa: SLF001
            refusals.add(refusal)
            refusal.add_done_callback(refusals.discard)
