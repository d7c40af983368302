"""A gRPC server that answers by script: it stands where a test needs failures that a sound server does not produce."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from bertapi.transport import SERVICE
from bertapi.v1 import bert_service_pb2, bert_service_pb2_grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the server saw of one attempt."""

    request: Message
    metadata: dict[str, str | bytes]
    remaining_seconds: float | None


@dataclass(slots=True)
class ScriptedServer(bert_service_pb2_grpc.BertServiceServicer):
    """Answers Embed and FillMask with the next of `answers`: a message, or a google.rpc.Status to fail with."""

    target: str = ""
    secure_target: str = ""
    answers: list[Message] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    health: health.HealthServicer = field(default_factory=health.HealthServicer)
    # How long each answer takes at least.
    delay_seconds: float = 0.0

    def Embed(self, request: Message, context: grpc.ServicerContext) -> Message:  # noqa: N802 — the API's name
        metadata = dict(context.invocation_metadata())
        self.arrivals.append(Arrival(request, metadata, context.time_remaining()))
        answer = self.answers.pop(0)
        time.sleep(self.delay_seconds)
        if isinstance(answer, status_pb2.Status):
            context.abort_with_status(rpc_status.to_status(answer))
        return answer

    FillMask = Embed

    def GetModel(self, request: Message, context: grpc.ServicerContext) -> Message:  # noqa: ARG002, N802 — the API's name
        return bert_service_pb2.GetModelResponse(model=bert_service_pb2.Model(max_characters=100))

    def set_serving(self, serving: bool) -> None:
        response = health_pb2.HealthCheckResponse
        self.health.set(SERVICE, response.SERVING if serving else response.NOT_SERVING)

    @staticmethod
    def failure(code: grpc.StatusCode, message: str = "scripted", *details: Message) -> status_pb2.Status:
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        return status_pb2.Status(code=code.value[0], message=message, details=packed)


@contextlib.contextmanager
def running_scripted_server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    bert_service_pb2_grpc.add_BertServiceServicer_to_server(scripted, server)
    health_pb2_grpc.add_HealthServicer_to_server(scripted.health, server)
    scripted.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    # Credentials that need no certificates: both ends see that the peer is on the same machine.
    secure_port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    scripted.secure_target = f"127.0.0.1:{secure_port}"
    scripted.set_serving(True)
    server.start()
    try:
        yield scripted
    finally:
        server.stop(grace=None).wait()
