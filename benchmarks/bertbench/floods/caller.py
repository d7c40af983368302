"""A caller that harms nobody: one short text at a time, on a connection of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import grpc
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc

TEXT = "the cat sat on the mat"
CALL_SECONDS = 10.0
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """first_seconds: how long the first call took, whose connection the server did not know yet; infinite if it failed.
    seconds: how long each later call took that was answered, in order of size. failed: later calls without an answer.
    """

    first_seconds: float
    seconds: tuple[float, ...]
    failed: int

    def percentile(self, share: float) -> float:
        """Seconds within which this share of later calls was answered; infinite if too few were, NaN without calls."""
        count = len(self.seconds) + self.failed
        if count == 0:
            return math.nan
        rank = max(1, math.ceil(share * count))
        return self.seconds[rank - 1] if rank <= len(self.seconds) else math.inf


def gather_calls(parts: Sequence[Calls]) -> Calls:
    """Several runs as one, whose first call is the median of theirs."""
    return Calls(
        first_seconds=median(part.first_seconds for part in parts),
        seconds=tuple(sorted(second for part in parts for second in part.seconds)),
        failed=sum(part.failed for part in parts),
    )


def call_for(target: str, seconds: float) -> Calls:
    """Call once, then for this long."""
    with grpc.insecure_channel(target, OWN_CONNECTION) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        first_seconds = _call(stub)
        end = time.perf_counter() + seconds
        later: list[float] = []
        while time.perf_counter() < end:
            later.append(_call(stub))
    answered = sorted(filter(math.isfinite, later))
    return Calls(first_seconds=first_seconds, seconds=tuple(answered), failed=len(later) - len(answered))


def _call(stub: pb_grpc.BertServiceStub) -> float:
    """Seconds until the answer; infinite without one."""
    began = time.perf_counter()
    try:
        stub.Embed(pb.EmbedRequest(inputs=[pb.TextInput(text=TEXT)]), timeout=CALL_SECONDS)
    except grpc.RpcError:
        return math.inf
    return time.perf_counter() - began
