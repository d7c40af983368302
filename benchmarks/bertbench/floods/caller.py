"""A caller that harms nobody: one short text at a time, on a connection of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc

TEXT = "the cat sat on the mat"
CALL_SECONDS = 10.0
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


def call_for(target: str, seconds: float) -> Calls:
    """Call for this long, and once more if nothing was called by then."""
    request, answered, failed = pb.EmbedRequest(inputs=[pb.TextInput(text=TEXT)]), [], 0
    with grpc.insecure_channel(target, OWN_CONNECTION) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            try:
                stub.Embed(request, timeout=CALL_SECONDS)
            except grpc.RpcError:
                failed += 1
            else:
                answered.append(time.perf_counter() - began)
    return Calls(seconds=tuple(sorted(answered)), failed=failed)
