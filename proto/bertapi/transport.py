"""How the clients reach a server: channel options, the service config, metadata, health. Sends nothing itself."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from bertapi.calls import Call
from bertapi.errors import BertError, DeadlineError, UnauthenticatedError, UnavailableError, read_error
from bertapi.targets import find_proxy, is_local
from bertapi.v1 import bert_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["BertService"].full_name
READY_POLL_SECONDS = 0.05
SILENCE = "it does not answer"

# The largest number that gRPC takes for a size. No server can be told to send or take larger messages.
MAX_MESSAGE_BYTES = 2**31 - 1
UNLIMITED = -1

KEEPALIVE_MILLISECONDS = 60_000
KEEPALIVE_TIMEOUT_MILLISECONDS = 10_000
RECONNECT_FIRST_MILLISECONDS = 100
RECONNECT_MAX_MILLISECONDS = 5_000

# What a header may hold as one word.
TOKEN = re.compile(r"[!-~]+")
NOT_ONE = "not one token, of ASCII without blanks"

# Some thirty years: longer ones overflow gRPC's clock, and nobody can tell them from none.
LONGEST_TIMEOUT_SECONDS = 1e9


class Caller:
    """What every call of one client states, and how its failures read. Both clients have one."""

    def __init__(self, target: str, timeout_seconds: float, token: str | Path | None) -> None:
        """timeout_seconds: of a call that states none. token: as of `call_metadata`."""
        self.target = target
        self.proxy = find_proxy(target, os.environ)
        self.is_closed = False
        self._timeout_seconds = timeout_seconds
        self._token = token

    def call_arguments(self, timeout_seconds: float | None) -> dict[str, Any]:
        """Keyword arguments of a gRPC call. Raises ValueError once the client is closed, as a closed file does."""
        if self.is_closed:
            raise ValueError(f"this client of {self.target} is closed; make another one")
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        return {"timeout": grpc_timeout(seconds), "metadata": call_metadata(self._token)}

    def deadline(self, timeout_seconds: float | None) -> float:
        """When a call that starts now must have ended, by `time.monotonic`."""
        return time.monotonic() + (self._timeout_seconds if timeout_seconds is None else timeout_seconds)

    @contextmanager
    def reading_failures(self, first: int = 0, alone: str = "") -> Iterator[None]:
        """Raises a failed call as BertError, also one that ended because its own client was closed.

        first, alone: of `Portion`, if the call sent a portion of a longer list.
        """
        try:
            yield
        except grpc.RpcError as error:
            raise read_error(error, self.proxy, first, alone) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if not self.is_closed or (task is not None and task.cancelling()):
                raise
            # gRPC would tell the task that it was cancelled itself, which nobody asked for.
            raise BertError(grpc.StatusCode.CANCELLED, "the client was closed during the call") from error


def load_service_config() -> str:
    """The published gRPC service config: round robin over healthy replicas, retries on UNAVAILABLE."""
    config = json.loads(resources.files("bertapi").joinpath("service_config.json").read_text(encoding="utf-8"))
    return json.dumps(config)


def channel_options(target: str, max_response_bytes: int | None = None) -> list[tuple[str, str | int]]:
    """Options of every channel to a BertService. Raises ValueError for a limit below 1.

    max_response_bytes: None takes whatever the server sends. Its own limit holds then, which only its operator knows
    and may raise, and an answer is never larger than what the client asked for.
    """
    if max_response_bytes is not None and max_response_bytes < 1:
        raise ValueError(f"max_response_bytes: {max_response_bytes} is less than 1")
    limit = UNLIMITED if max_response_bytes is None else min(max_response_bytes, MAX_MESSAGE_BYTES)
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", load_service_config()),
        ("grpc.enable_retries", 1),
        # gRPC retries only what fits here, 256 KiB by default: large batches would silently lose their retries.
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", limit),
        ("grpc.keepalive_time_ms", KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MILLISECONDS),
        # gRPC's own bound of two minutes would leave a client blind long after a server is back.
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MILLISECONDS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MILLISECONDS),
    ]
    if is_local(target):
        # gRPC would otherwise send even these through the environment's HTTP proxy, which cannot reach them.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def tls_credentials(
    *, ca: str | Path | None = None, certificate: str | Path | None = None, key: str | Path | None = None
) -> grpc.ChannelCredentials:
    """TLS by PEM files. ca: who must have signed the server's certificate; None for the public authorities.

    certificate, key: the client's own, for a server that asks for them. Raises OSError where a file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        root_certificates=_read(ca), private_key=_read(key), certificate_chain=_read(certificate)
    )


def call_metadata(token: str | Path | None) -> tuple[tuple[str, str], ...]:
    """token: a bearer token, or the file that holds it; without TLS it travels in the clear.

    Raises UnauthenticatedError where the file cannot be read, or it is no token.
    """
    if not token:
        return ()
    name = f"token file {token}" if isinstance(token, Path) else "token"
    try:
        text = token.read_text(encoding="ascii").strip() if isinstance(token, Path) else token
    except (OSError, ValueError) as error:
        reason = f"{name}: {getattr(error, 'strerror', None) or NOT_ONE}"
        raise UnauthenticatedError(grpc.StatusCode.UNAUTHENTICATED, reason) from error
    if TOKEN.fullmatch(text) is None:
        raise UnauthenticatedError(grpc.StatusCode.UNAUTHENTICATED, f"{name}: {NOT_ONE}")
    return (("authorization", f"Bearer {text}"),)


def grpc_timeout(seconds: float) -> float | None:
    """Seconds as grpc wants them: None is no deadline. Raises ValueError for what is no number."""
    if math.isnan(seconds):
        raise ValueError("a timeout that is no number of seconds")
    return None if seconds > LONGEST_TIMEOUT_SECONDS else seconds


def addressed_request(call: Call[object], default_model: str) -> Message:
    """The call's request, for the client's default model where it names none."""
    request = call.request
    if not default_model or getattr(request, "model", default_model) != "":
        return request
    addressed = type(request)()
    addressed.CopyFrom(request)
    addressed.model = default_model  # type: ignore[attr-defined]
    return addressed


def health_request() -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=SERVICE)


def obstacle_in(answer: health_pb2.HealthCheckResponse) -> str:
    """What keeps a server that answered from serving; empty where nothing does."""
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"its health is {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


def obstacle_behind(error: grpc.RpcError, before: str, proxy: str) -> str:
    """What keeps a server that did not answer from serving. A lost connection is no failure yet; others are raised.

    before: what it was so far, and still is if the time ended before anything else was found. proxy: of `read_error`.
    """
    failure = read_error(error, proxy)
    if isinstance(failure, DeadlineError):
        return before
    if isinstance(failure, UnavailableError):
        return failure.message or before
    raise failure from error


def remaining_seconds(deadline: float, target: str, obstacle: str) -> float:
    """Until a deadline of time.monotonic. Raises DeadlineError, which names the obstacle, once it has passed."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise DeadlineError(grpc.StatusCode.DEADLINE_EXCEEDED, f"{target} did not become ready in time: {obstacle}")
    return remaining


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
