"""Three replicas are replaced one after the other, again and again, under a client's load: no call is lost."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack

import grpc
import pytest
from bertapi.transport import channel_options
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from servers import PRETRAINING, RunningServer, running_server

CALLS = 20_000
CALLERS = 8
ROUNDS = 3
REQUEST = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat")])


@pytest.mark.slow
def test_rolling_restarts_lose_no_call() -> None:
    """With the published client config: round robin over the healthy, retries on UNAVAILABLE."""
    outcomes: Counter[str] = Counter()
    replaced = threading.Event()
    with ExitStack() as replicas:
        running = [start(replicas) for _ in range(3)]
        targets = [server.target for server in running]
        target = "ipv4:" + ",".join(targets)
        with grpc.insecure_channel(target, [*channel_options(target), ("grpc.enable_http_proxy", 0)]) as channel:
            stub = pb_grpc.BertServiceStub(channel)

            def call_on() -> None:
                while not replaced.is_set() or sum(outcomes.values()) < CALLS:
                    try:
                        stub.Embed(REQUEST, timeout=30)
                        outcomes["OK"] += 1
                    except grpc.RpcError as error:
                        outcomes[f"{error.code().name}: {error.details()}"] += 1

            callers = [threading.Thread(target=call_on) for _ in range(CALLERS)]
            for caller in callers:
                caller.start()
            try:
                for _ in range(ROUNDS):
                    for number, server in enumerate(running):
                        assert server.stop() == 0
                        running[number] = start(replicas, targets[number])
                        wait_for_traffic(running[number])
            finally:
                replaced.set()
                for caller in callers:
                    caller.join()
    assert set(outcomes) == {"OK"}
    assert outcomes["OK"] >= CALLS


def start(replicas: ExitStack, target: str = "127.0.0.1:0") -> RunningServer:
    """A drain pause as long as a client needs to hear of NOT_SERVING."""
    port = target.rpartition(":")[2]
    return replicas.enter_context(running_server(PRETRAINING, "--port", port, "--drain-pause", "0.5"))


def wait_for_traffic(server: RunningServer) -> None:
    """The new replica gets its share before the next one leaves."""
    while not server.sample('bertserve_tokens_total{model="pretraining"}'):
        threading.Event().wait(0.05)
