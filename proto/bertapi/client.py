"""A Python client of bertserve, synchronous and asynchronous.

    from bertapi.client import BertClient

    with BertClient("127.0.0.1:50051") as client:
        vectors = client.embed(["a cat", "a dog"]).matrix                     # numpy, [2, size]
        words = client.fill_mask("The [MASK] sat on the mat")[0].masks[0].predictions
        score = client.score_next_sentence("It rained.", "We got wet.")[0].probability

Owns the channel and its life. What a method sends and how its answer is read is `calls` and `responses`; the service
config is `service_config.json`, in force on every channel. Failures are `BertError`s.
"""

from __future__ import annotations

import time
from asyncio import sleep
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from bertapi import calls, portions, streams, transport
from bertapi.calls import Call, EmbedOptions, FillMaskOptions, TagOptions
from bertapi.errors import (
    BertError,
    DeadlineError,
    InvalidInputError,
    MalformedResponseError,
    MissingHeadError,
    OverloadedError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnknownModelError,
    Violation,
)
from bertapi.methods import async_method, documented_by, method
from bertapi.results import StreamedAnalysis
from bertapi.streams import Source, StreamCall
from bertapi.transport import Caller, tls_credentials
from bertapi.v1 import bert_service_pb2_grpc
from bertapi.v1.bert_service_pb2 import StreamAnalyzeResponse, TextInput

__all__ = [
    "AsyncBertClient",
    "BertClient",
    "BertError",
    "DeadlineError",
    "EmbedOptions",
    "FillMaskOptions",
    "InvalidInputError",
    "MalformedResponseError",
    "MissingHeadError",
    "OverloadedError",
    "TagOptions",
    "TextInput",
    "TooLargeError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownModelError",
    "Violation",
    "tls_credentials",
]

DEFAULT_TIMEOUT_SECONDS = 30.0


class Connected:
    """A client's connections belong to its process."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client cannot be pickled or copied: make one in each process, and share it between threads")


class BertClient(Connected):
    """Calls a server and blocks for the answer. Safe to share between threads; close it, or use it in a `with` block.

    target: `HOST:PORT`, or a gRPC name such as `dns:///bertserve:50051`, whose addresses then share the load.
    model: asked where a call names none. timeout_seconds: of every call that states none; `math.inf` for no limit.
    credentials: TLS, as of `tls_credentials`. token: sent as a bearer token with every call; a Path names a file that
    holds it, read anew for every call, so that it can be renewed. max_response_bytes: of an answer, beyond which a call
    fails with TooLargeError; None takes what the server sends, whose own limit `get_model` tells. Set it if you do not
    trust the server with this process's memory.
    """

    def __init__(
        self,
        target: str,
        *,
        model: str = "",
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | Path | None = None,
        max_response_bytes: int | None = None,
    ) -> None:
        options = transport.channel_options(target, max_response_bytes)
        self._model = model
        self._caller = Caller(target, timeout_seconds, token)
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._stub = bert_service_pb2_grpc.BertServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    embed = method(calls.embed)
    fill_mask = method(calls.fill_mask)
    score_next_sentence = method(calls.score_next_sentence)
    analyze = method(calls.analyze)
    classify = method(calls.classify)
    tag_tokens = method(calls.tag_tokens)
    tokenize = method(calls.tokenize)
    get_model = method(calls.get_model)
    list_models = method(calls.list_models)

    @documented_by(streams.stream_analyze)
    def stream_analyze(self, *args: Any, **kwargs: Any) -> Iterator[StreamedAnalysis]:
        with closing(self.fetch_stream(streams.stream_analyze(*args, **kwargs))) as responses:
            for response in responses:
                yield streams.read_streamed(response)

    def fetch_stream(self, call: StreamCall) -> Generator[StreamAnalyzeResponse, None, None]:
        """Send a call of `bertapi.streams` and yield the responses themselves as they come. Raises BertError."""
        source = Source()
        responses = self._stub.StreamAnalyze(
            source.read(call.requests(self._model)),
            **self._caller.call_arguments(call.timeout_seconds),
        )
        try:
            with self._caller.reading_failures(alone="an input"):
                yield from responses
        finally:
            responses.cancel()
        source.check()

    def fetch(self, call: Call[object]) -> Message:
        """Send a call of `bertapi.calls` and return the response message itself. Raises BertError.

        A list too large for one request goes in several, one after the other, within the time of the one call.
        """
        deadline, answers = self._caller.deadline(call.timeout_seconds), []
        for portion in portions.split(transport.addressed_request(call, self._model)):
            with self._caller.reading_failures(portion.first, portion.alone):
                arguments = self._caller.call_arguments(deadline - time.monotonic())
                answers.append(getattr(self._stub, call.method)(portion.request, **arguments))
        return portions.join(answers)

    def wait_ready(self, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        """Return once the server says that it serves; raises DeadlineError, with the reason, where it does not."""
        deadline = time.monotonic() + timeout_seconds
        obstacle = transport.SILENCE
        while obstacle := self._find_obstacle(deadline, obstacle):
            time.sleep(transport.READY_POLL_SECONDS)

    def close(self) -> None:
        """End the calls under way, and the connections. Calls after that raise ValueError."""
        self._caller.is_closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find_obstacle(self, deadline: float, before: str) -> str:
        patience_seconds = transport.remaining_seconds(deadline, self._caller.target, before)
        arguments = self._caller.call_arguments(patience_seconds)
        try:
            answer = self._health.Check(transport.health_request(), **arguments)
        except grpc.RpcError as error:
            return transport.obstacle_behind(error, before, self._caller.proxy)
        return transport.obstacle_in(answer)


class AsyncBertClient(Connected):
    """BertClient for asyncio: the same methods as coroutines. Make it where its event loop runs."""

    def __init__(
        self,
        target: str,
        *,
        model: str = "",
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | Path | None = None,
        max_response_bytes: int | None = None,
    ) -> None:
        options = transport.channel_options(target, max_response_bytes)
        self._model = model
        self._caller = Caller(target, timeout_seconds, token)
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )
        self._stub = bert_service_pb2_grpc.BertServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    embed = async_method(calls.embed)
    fill_mask = async_method(calls.fill_mask)
    score_next_sentence = async_method(calls.score_next_sentence)
    analyze = async_method(calls.analyze)
    classify = async_method(calls.classify)
    tag_tokens = async_method(calls.tag_tokens)
    tokenize = async_method(calls.tokenize)
    get_model = async_method(calls.get_model)
    list_models = async_method(calls.list_models)

    @documented_by(streams.stream_analyze)
    async def stream_analyze(self, *args: Any, **kwargs: Any) -> AsyncIterator[StreamedAnalysis]:
        call, source = streams.stream_analyze(*args, **kwargs), Source()
        responses = self._stub.StreamAnalyze(
            source.read_async(call.requests_async(self._model)),
            **self._caller.call_arguments(call.timeout_seconds),
        )
        try:
            with self._caller.reading_failures(alone="an input"):
                async for response in responses:
                    yield streams.read_streamed(response)
        finally:
            responses.cancel()
        source.check()

    async def fetch(self, call: Call[object]) -> Message:
        """Send a call of `bertapi.calls` and return the response message itself. Raises BertError.

        A list too large for one request goes in several, one after the other, within the time of the one call.
        """
        deadline, answers = self._caller.deadline(call.timeout_seconds), []
        for portion in portions.split(transport.addressed_request(call, self._model)):
            with self._caller.reading_failures(portion.first, portion.alone):
                arguments = self._caller.call_arguments(deadline - time.monotonic())
                answers.append(await getattr(self._stub, call.method)(portion.request, **arguments))
        return portions.join(answers)

    async def wait_ready(self, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        """Return once the server says that it serves; raises DeadlineError, with the reason, where it does not."""
        deadline = time.monotonic() + timeout_seconds
        obstacle = transport.SILENCE
        while obstacle := await self._find_obstacle(deadline, obstacle):  # noqa: ASYNC110 — waits for another process
            await sleep(transport.READY_POLL_SECONDS)

    async def close(self) -> None:
        """End the calls under way, and the connections. Calls after that raise ValueError."""
        self._caller.is_closed = True
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _find_obstacle(self, deadline: float, before: str) -> str:
        patience_seconds = transport.remaining_seconds(deadline, self._caller.target, before)
        arguments = self._caller.call_arguments(patience_seconds)
        try:
            answer = await self._health.Check(transport.health_request(), **arguments)
        except grpc.RpcError as error:
            return transport.obstacle_behind(error, before, self._caller.proxy)
        return transport.obstacle_in(answer)
