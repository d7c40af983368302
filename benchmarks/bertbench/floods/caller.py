"""Callers that harm nobody, with one short text at a time: a client that the server knows, and newcomers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc

TEXT = "the cat sat on the mat"
CALL_SECONDS = 10.0
# Between a newcomer and the next one.
NEWCOMER_PAUSE_SECONDS = 0.2
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """seconds: how long each answered call took, in order of size. failed: calls without an answer."""

    seconds: tuple[float, ...]
    failed: int

    def percentile(self, share: float) -> float:
        """Seconds within which this share of all calls was answered; infinite if too few were, NaN without calls."""
        count = len(self.seconds) + self.failed
        if count == 0:
            return math.nan
        rank = max(1, math.ceil(share * count))
        return self.seconds[rank - 1] if rank <= len(self.seconds) else math.inf


def gather_calls(parts: Sequence[Calls]) -> Calls:
    """Several runs as one."""
    seconds = sorted(second for part in parts for second in part.seconds)
    return Calls(seconds=tuple(seconds), failed=sum(part.failed for part in parts))


class Caller:
    """A small caller with a connection of its own, which lasts as long as the block of `connected`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = pb_grpc.BertServiceStub(channel)

    def call_for(self, seconds: float) -> Calls:
        """Call for this long, one call after the other."""
        end, durations = time.perf_counter() + seconds, []
        while time.perf_counter() < end:
            durations.append(self.call())
        return count_calls(durations)

    def call(self) -> float:
        """Seconds until the answer; infinite without one."""
        began = time.perf_counter()
        try:
            self._stub.Embed(pb.EmbedRequest(inputs=[pb.TextInput(text=TEXT)]), timeout=CALL_SECONDS)
        except grpc.RpcError:
            return math.inf
        return time.perf_counter() - began


@contextmanager
def connected(target: str) -> Iterator[Caller]:
    """A caller on a connection of its own."""
    with grpc.insecure_channel(target, OWN_CONNECTION) as channel:
        yield Caller(channel)


def count_calls(durations: Sequence[float]) -> Calls:
    """durations: in seconds, infinite for calls without an answer."""
    answered = sorted(filter(math.isfinite, durations))
    return Calls(seconds=tuple(answered), failed=len(durations) - len(answered))


def call_as_newcomers(target: str, seconds: float) -> Calls:
    """Connect, call once and leave, again and again for this long."""
    end, durations = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        with connected(target) as caller:
            durations.append(caller.call())
        time.sleep(NEWCOMER_PAUSE_SECONDS)
    return count_calls(durations)
