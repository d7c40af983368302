"""What is known of a gRPC call: its metadata, its deadline, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import grpc

# Quoted: the class takes parameters in its stubs only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


# Metadata of the call under way. Set by the chain before its links.
METADATA: ContextVar[Mapping[str, str | bytes]] = ContextVar("metadata", default=MappingProxyType({}))


def when_done(context: Context, then: Callable[[], None]) -> None:
    """Call `then` once the call is over: its last byte is sent, or it was cancelled."""
    context.add_done_callback(cast("Any", lambda _: then()))


def deadline_of(context: Context) -> float | None:
    """By `time.monotonic`; None where the caller set none."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining
