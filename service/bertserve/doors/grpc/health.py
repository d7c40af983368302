"""grpc.health.v1: whether the server serves, asked once or watched.

A library's servicer holds a lock while it writes to a watcher, so that one who does not read keeps the status from all
others, and the server from leaving. Here nobody waits for anybody's reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bertserve.doors.grpc.calls import Context

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # has no stubs
    """All services of the server serve, or none does. Lives on the event loop."""

    def __init__(self, services: Iterable[str]) -> None:
        """services: full names; the empty name, of the server as a whole, is known beside them."""
        self._names = {"", *services}
        self._is_serving = False
        self._changed = asyncio.Event()

    def set(self, is_serving: bool) -> None:
        """Say it to everybody who watches."""
        self._is_serving = is_serving
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._status(is_known=True))

    async def List(
        self,
        request: health_pb2.HealthListRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> health_pb2.HealthListResponse:
        status = health_pb2.HealthCheckResponse(status=self._status(is_known=True))
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(self._names, status))

    async def Watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: Context,  # noqa: ARG002
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse]:
        """The status now, and each that differs from the one told before; of an unknown service that it is unknown."""
        is_known = request.service in self._names
        del request  # its name may be long, and a watch has no end
        told = None
        while True:
            # Before the answer, on whose way the next change may come.
            changed, status = self._changed, self._status(is_known)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            await changed.wait()

    def _status(self, is_known: bool) -> str:
        """The name of a ServingStatus."""
        if not is_known:
            return "SERVICE_UNKNOWN"
        return "SERVING" if self._is_serving else "NOT_SERVING"
