"""The server: opens doors around a serving, says when they are open, and leaves without losing a call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from bertserve.doors.door import Door
from bertserve.doors.grpc.door import prepare_grpc_door
from bertserve.doors.http.door import prepare_metrics_door
from bertserve.observe.metrics import Metrics
from bertserve.serving import Serving, open_serving
from bertserve.settings import Settings

# How long the callers of a lost engine have to receive their status.
ABANDON_SECONDS = 2.0


class Server:
    """A server that is ready. Made by `open_server`."""

    def __init__(self, settings: Settings, serving: Serving, doors: Sequence[Door]) -> None:
        self.engine_lost = serving.engine_lost
        self._settings = settings
        self._drain = serving.drain
        self._doors = doors

    @property
    def addresses(self) -> str:
        """Return every door's name and where it listens, such as `grpc 127.0.0.1:50051 metrics 127.0.0.1:9090`."""
        return " ".join(f"{door.name} {door.address}" for door in self._doors)

    async def drain(self) -> None:
        """Announce that the server leaves, serve on for a while, refuse new calls. Return once the open ones ended."""
        await self._drain.leave(self._settings.drain_pause, self._settings.grace)

    async def lost(self) -> None:
        """Return once no client can be served any more: the engine is lost, or a door has closed by itself."""
        losses = (self.engine_lost.wait(), *(door.lost() for door in self._doors))
        ends = [asyncio.ensure_future(loss) for loss in losses]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def abandon(self) -> None:
        """Send what the callers of a lost engine are told, and no more."""
        await self._drain.wait_until_ended(ABANDON_SECONDS)


@contextlib.asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[Server]:
    """Load every bundle, then serve. Raises BundleError, SettingsError or ServerError before anything is served."""
    metrics = Metrics()
    # Prepared before the models are loaded, so that wrong settings of a door are found at once.
    prepared = (prepare_grpc_door(settings, metrics), prepare_metrics_door(settings))
    async with open_serving(settings, metrics) as serving, contextlib.AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(open_door(serving)) for open_door in prepared]
        for door in doors:
            await door.start()
        yield Server(settings, serving, doors)
