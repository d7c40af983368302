"""How a client process reaches a server: gRPC, or HTTP for peers that speak nothing else. Both answer with a status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import grpc

from bertbench.load.requests import PreparedRequest

CHANNEL_OPTIONS = [
    # A load generator reports refusals; it does not try again.
    ("grpc.enable_retries", 0),
    ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'),
    ("grpc.max_receive_message_length", -1),
    # Channels of one target would otherwise share a connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]

HTTP_STATUSES = {
    200: grpc.StatusCode.OK,
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

Answer = tuple[grpc.StatusCode, bytes]


class Transport(Protocol):
    """Connected, and used by one event loop."""

    async def call(self, request: PreparedRequest, timeout_seconds: float) -> Answer:
        """The answer's status and bytes, empty unless the status is OK. Cancelling it cancels the call."""


def connect(target: str, paths: Iterable[str], connections: int) -> AbstractAsyncContextManager[Transport]:
    """Connections to a target, waited for without an end: for HTTP, where its address begins with http://, for gRPC
    else. paths: of all requests to come."""
    return _connect_http(target) if target.startswith("http://") else _connect_grpc(target, paths, connections)


class GrpcTransport:
    """Calls go over the channels in turn."""

    def __init__(self, channels: list[grpc.aio.Channel], paths: Iterable[str]) -> None:
        self._methods: list[dict[str, Any]] = [
            {path: channel.unary_unary(path) for path in paths} for channel in channels
        ]
        self._calls = 0

    async def call(self, request: PreparedRequest, timeout_seconds: float) -> Answer:
        self._calls += 1
        method = self._methods[self._calls % len(self._methods)][request.path]
        try:
            return grpc.StatusCode.OK, await method(request.message, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            return error.code(), b""


class HttpTransport:
    """POST of JSON over connections that are kept; as many as there are calls under way."""

    def __init__(self, target: str) -> None:
        # Not for a run over gRPC, which is nearly every one.
        import httpx2

        self._failures = httpx2.TimeoutException, httpx2.HTTPError
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self.client = httpx2.AsyncClient(base_url=target, limits=limits, trust_env=False)

    async def call(self, request: PreparedRequest, timeout_seconds: float) -> Answer:
        timed_out, failed = self._failures
        headers = {"content-type": "application/json"}
        try:
            answer = await self.client.post(
                request.path, content=request.message, headers=headers, timeout=timeout_seconds
            )
        except timed_out:
            return grpc.StatusCode.DEADLINE_EXCEEDED, b""
        except failed:
            return grpc.StatusCode.UNAVAILABLE, b""
        status = HTTP_STATUSES.get(answer.status_code, grpc.StatusCode.INTERNAL)
        return status, answer.content if status is grpc.StatusCode.OK else b""


@asynccontextmanager
async def _connect_grpc(target: str, paths: Iterable[str], connections: int) -> AsyncIterator[Transport]:
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS))
            for _ in range(connections)
        ]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield GrpcTransport(channels, paths)


@asynccontextmanager
async def _connect_http(target: str) -> AsyncIterator[Transport]:
    transport = HttpTransport(target)
    async with transport.client:
        yield transport
