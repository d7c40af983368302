"""The door of probes and metrics: /metrics, /livez and /readyz."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bertserve.doors.door import OpenDoor, ServerError, join_address
from bertserve.doors.http.probes import Probes
from bertserve.serving import Serving
from bertserve.settings import Settings


class MetricsDoor:
    """The metrics port. It answers from the moment it is bound, and its pages count as no calls."""

    name = "metrics"

    def __init__(self, address: str) -> None:
        self.address = address

    async def start(self) -> None:
        """Do nothing: the port answers already."""

    async def lost(self) -> None:
        """Never return: the port does not close by itself."""
        await asyncio.get_running_loop().create_future()


def prepare_metrics_door(settings: Settings) -> OpenDoor:
    """Return what opens the door."""
    return partial(_open, settings.metrics_host or settings.host, settings.metrics_port)


@asynccontextmanager
async def _open(host: str, port: int, serving: Serving) -> AsyncIterator[MetricsDoor]:
    try:
        probes = Probes(
            host,
            port,
            serving.metrics.registry,
            is_alive=lambda: serving.is_alive,
            is_ready=lambda: serving.is_ready,
        )
    except OSError as error:
        raise ServerError(
            f"cannot listen on {join_address(host, port)} ({error.strerror}); "
            "choose others with --metrics-port and --metrics-host"
        ) from error
    try:
        yield MetricsDoor(join_address(host, probes.port))
    finally:
        probes.stop()
