"""Callers who keep calling, and what becomes of their calls, phase by phase."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import grpc
from bertapi.transport import channel_options

from bertbench.errors import BenchError
from bertbench.load.requests import PreparedRequest
from bertbench.load.transports import GrpcTransport

CONNECT_SECONDS = 15.0
TIMEOUT_SECONDS = 10.0
# gRPC's own bound of 30 s between two questions to a name server is longer than a trial.
ASK_NAMES_MILLISECONDS = 1000


class Client(StrEnum):
    """plain: gRPC's defaults with round robin. published: the service config of this API, with health and retries."""

    PLAIN = "plain"
    PUBLISHED = "published"


class Phase(StrEnum):
    """steady: nothing happens. joined: a replica is added. killed: one goes by SIGKILL. drained: one goes by SIGTERM.
    retired: it goes by SIGTERM after it was taken out of the name or list."""

    STEADY = "steady"
    JOINED = "joined"
    KILLED = "killed"
    DRAINED = "drained"
    RETIRED = "retired"


Outcomes = dict[Phase, Counter[str]]


def options_of(client: Client, target: str) -> list[tuple[str, Any]]:
    """Of the channel."""
    own: list[tuple[str, Any]] = [
        ("grpc.dns_min_time_between_resolutions_ms", ASK_NAMES_MILLISECONDS),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
    if client is Client.PUBLISHED:
        return [*channel_options(target), *own]
    return [("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'), *own]


@dataclass(slots=True)
class Callers:
    """outcomes: names of gRPC's codes, counted in the phase in which each call ended."""

    transport: GrpcTransport
    requests: Sequence[PreparedRequest]
    phase: Phase = Phase.STEADY
    outcomes: Outcomes = field(default_factory=lambda: {phase: Counter() for phase in Phase})
    stopped: bool = False

    async def keep_calling(self, first: int) -> None:
        number = first
        while not self.stopped:
            request = self.requests[number % len(self.requests)]
            status, _ = await self.transport.call(request, TIMEOUT_SECONDS)
            self.outcomes[self.phase][status.name] += 1
            number += 1


@contextlib.asynccontextmanager
async def calling(
    client: Client, target: str, requests: Sequence[PreparedRequest], number: int
) -> AsyncIterator[Callers]:
    """So many callers on one channel, each of whom sends the next call when the last has ended. Raises BenchError
    where the target cannot be reached."""
    async with grpc.aio.insecure_channel(target, options=options_of(client, target)) as channel:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await channel.channel_ready()
        except TimeoutError as error:
            raise BenchError(f"no connection to {target} within {CONNECT_SECONDS:g} s") from error
        callers = Callers(GrpcTransport([channel], {request.path for request in requests}), requests)
        tasks = [asyncio.create_task(callers.keep_calling(first)) for first in range(number)]
        try:
            yield callers
        finally:
            callers.stopped = True
            await asyncio.gather(*tasks)
