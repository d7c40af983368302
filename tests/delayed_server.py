"""A real gRPC server of known delay: where a test must know what latencies a load generator ought to report."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc

TOKENS = 7


@dataclass(slots=True)
class DelayedServer(pb_grpc.BertServiceServicer):
    """Answers Embed after `delay` seconds; the call of number `stalled`, after `stall` seconds.

    Every text counts TOKENS tokens. received: calls that reached it.
    """

    delay: float
    stalled: int = -1
    stall: float = 0.0
    target: str = ""
    received: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def Embed(self, request: pb.EmbedRequest, context: grpc.ServicerContext) -> pb.EmbedResponse:  # noqa: ARG002, N802
        with self.lock:
            number, self.received = self.received, self.received + 1
        time.sleep(self.stall if number == self.stalled else self.delay)
        return pb.EmbedResponse(embeddings=[pb.Embedding(token_count=TOKENS) for _ in request.inputs])


@contextlib.contextmanager
def delayed_server(servicer: DelayedServer, *, workers: int) -> Iterator[DelayedServer]:
    """Serves as many calls at a time as there are workers, the others in order of arrival."""
    server = grpc.server(ThreadPoolExecutor(workers))
    pb_grpc.add_BertServiceServicer_to_server(servicer, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield servicer
    finally:
        server.stop(grace=None).wait()
