"""Accepts calls: answers those of methods that are not served by UNIMPLEMENTED, whatever bytes their names are.

grpc.aio of grpcio 1.85 decodes the name of such a method as UTF-8 in the loop that accepts every call. A name that is
not UTF-8 ends that loop, and the port with it. The same loop does some work for every served method at each call. The
server here takes all calls itself, each method's in a task of its own, and leaves the names of others encoded.
It needs private names of grpcio. If a grpcio lacks one, gRPC's own server is used instead, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
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
    (cygrpc, "AioServer._request_registered_call"),
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
        def __init__(self) -> None:
            super().__init__(asyncio.get_running_loop(), None, (), tuple(interceptors), tuple(options), None)
            self._served: dict[str, Any] = {}

        def add_registered_method_handlers(self, handlers: dict[str, Any]) -> None:
            super().add_registered_method_handlers(handlers)
            self._served.update(handlers)

        def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
            """Return a task that takes all calls of a method, or, for None, all unserved calls.

            gRPC expects a future of the next call, and waits for those of all methods again after each call.
            """
            loop = asyncio.get_running_loop()
            if method is None:
                return loop.create_task(refuse_unserved(self))
            request = partial(self._request_registered_call, method)
            return loop.create_task(_accept(request, method.decode(), self._served, tuple(interceptors)))

    class Server(_server.Server):
        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()
            self._server = Acceptor()

    return Server()


async def refuse_unserved(acceptor: Any) -> None:
    """Answer every call of a method that is not served, until gRPC's own error says that the server stops."""
    await _accept(acceptor._request_call, "", {}, ())  # noqa: SLF001


async def _accept(
    request: Callable[[], Awaitable[Any]], name: str, served: dict[str, Any], interceptors: _Interceptors
) -> None:
    """Handle every call that comes, until gRPC's own error says that the server stops. request: awaits the next call.

    name: of the calls' method. served: handlers by name; a call of any other method is answered by UNIMPLEMENTED.
    """
    loop = asyncio.get_running_loop()
    resolver = cygrpc._MethodResolver([], served)  # noqa: SLF001
    open_calls = set()

    def handle(call: Any) -> None:
        handling = cygrpc._handle_rpc(name, resolver, interceptors, call, loop, False)  # noqa: SLF001
        task = loop.create_task(cygrpc._schedule_rpc_coro(handling, call, loop, name))  # noqa: SLF001
        open_calls.add(task)
        task.add_done_callback(open_calls.discard)

    while True:
        handle(await request())
