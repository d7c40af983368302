"""Answers calls of methods that are not served by UNIMPLEMENTED, whatever bytes their names are.

grpc.aio of grpcio 1.85 decodes the name of such a method as UTF-8 in the loop that accepts every call. A name that is
not UTF-8 ends that loop, and the port with it. The server here takes those calls itself and leaves their names encoded.
It needs private names of grpcio. If a grpcio lacks one, gRPC's own server is used instead, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

LOG = logging.getLogger(__name__)

_Interceptors = Sequence[grpc.aio.ServerInterceptor]
_Options = Sequence[tuple[str, int]]

# Private names, by the object that has them. grpcio 1.85 has all of them; grpcio 1.83 and older lack some.
_NEEDED = (
    (_server, "Server"),
    (cygrpc, "AioServer"),
    (cygrpc, "AioServer._make_request_call_future"),
    (cygrpc, "AioServer._request_call"),
    (cygrpc, "_MethodResolver"),
    (cygrpc, "_handle_rpc"),
    (cygrpc, "_schedule_rpc_coro"),
)


def make_server(interceptors: _Interceptors, options: _Options) -> grpc.aio.Server:
    """Return a server of registered methods only, as generated code adds them. interceptors: outermost first."""
    missing = missing_names()
    if not missing:
        return cast("grpc.aio.Server", _make_name_blind_server(interceptors, options))
    LOG.warning(
        "grpcio %s lacks %s: gRPC's own server answers methods that are not served; with some versions of grpcio, "
        "a method's name that is not UTF-8 ends the process with status 3",
        grpc.__version__,
        ", ".join(missing),
    )
    return grpc.aio.server(interceptors=list(interceptors), options=list(options))


def missing_names() -> list[str]:
    """Return the private names that this grpcio lacks."""
    return [name for owner, name in _NEEDED if not _has(owner, name)]


def _has(owner: Any, name: str) -> bool:
    for part in name.split("."):
        owner = getattr(owner, part, None)
    return owner is not None


def _make_name_blind_server(interceptors: _Interceptors, options: _Options) -> _server.Server:
    # Defined here because its base class may be missing.
    class Acceptor(cygrpc.AioServer):  # type: ignore[misc]  # has no stubs
        def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
            """Return a future of the next call of a method, or, for None, a task that takes all unserved calls."""
            if method is not None:
                return super()._make_request_call_future(method)  # type: ignore[no-any-return]
            return asyncio.get_running_loop().create_task(refuse_unserved(self))

    class Server(_server.Server):
        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()
            self._server = Acceptor(self._loop, None, (), tuple(interceptors), tuple(options), None)

    return Server()


async def refuse_unserved(acceptor: Any) -> None:
    """Answer every call of a method that is not served, until gRPC's own error says that the server stops."""
    loop = asyncio.get_running_loop()
    served = cygrpc._MethodResolver([], {})  # noqa: SLF001 - resolves no method
    refusals = set()
    while True:
        call = await acceptor._request_call()  # noqa: SLF001
        handling = cygrpc._handle_rpc("", served, (), call, loop, False)  # noqa: SLF001
        refusal = loop.create_task(cygrpc._schedule_rpc_coro(handling, call, loop, ""))  # noqa: SLF001
        refusals.add(refusal)
        refusal.add_done_callback(refusals.discard)
