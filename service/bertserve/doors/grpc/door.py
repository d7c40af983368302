"""The gRPC door: its services, within their chain, on their port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc
from bertapi.oip import inference_pb2, inference_pb2_grpc
from bertapi.v1 import bert_service_pb2, bert_service_pb2_grpc
from grpc_health.v1 import health_pb2_grpc

from bertserve.doors.door import OpenDoor, join_address
from bertserve.doors.grpc.bert.service import BertServicer
from bertserve.doors.grpc.chain.assembly import build_chain
from bertserve.doors.grpc.health import HEALTH, HealthServicer
from bertserve.doors.grpc.oip.service import InferenceServicer
from bertserve.doors.grpc.port import Guards, bind, make_grpc_server, open_guards
from bertserve.doors.grpc.reflection import add_reflection
from bertserve.drain import Drain, Stage
from bertserve.observe.logs import log_error
from bertserve.observe.metrics import Metrics
from bertserve.process.descriptors import allow_connections
from bertserve.serving import Serving
from bertserve.settings import Settings

BERT_SERVICE = bert_service_pb2.DESCRIPTOR.services_by_name["BertService"]
OPEN_INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class GrpcDoor:
    """gRPC's port, and what is served there."""

    name = "grpc"

    def __init__(self, address: str, grpc_server: grpc.aio.Server, drain: Drain) -> None:
        self.address = address
        self._grpc_server = grpc_server
        self._drain = drain

    async def start(self) -> None:
        await self._grpc_server.start()

    async def lost(self) -> None:
        """Return once gRPC has closed its port, and log it unless the server leaves."""
        # A task of its own: gRPC could not be stopped any more if this wait was cancelled.
        closed = asyncio.create_task(self._grpc_server.wait_for_termination())
        await asyncio.wait([closed])
        if self._drain.stage is Stage.SERVING:
            log_error("gRPC has closed its port, the process ends")


def prepare_grpc_door(settings: Settings, metrics: Metrics) -> OpenDoor:
    """Return what opens the door.

    Raises ServerError for files that do not hold what they should, and for tracing that is not installed.
    """
    allow_connections(settings.max_connections)
    return partial(_open, settings, open_guards(settings, metrics))


@asynccontextmanager
async def _open(settings: Settings, guards: Guards, serving: Serving) -> AsyncIterator[GrpcDoor]:
    services = _services(settings)
    chain = build_chain(
        settings, serving.metrics, serving.drain, services, tokens=guards.tokens, tracing=guards.tracing
    )  # fmt: skip
    grpc_server = make_grpc_server(settings, chain)
    _add_services(grpc_server, serving, services)
    port = bind(grpc_server, settings, guards.credentials)
    try:
        yield GrpcDoor(join_address(settings.host, port), grpc_server, serving.drain)
    finally:
        await grpc_server.stop(grace=0)
        guards.stop()


def _services(settings: Settings) -> dict[str, dict[str, str]]:
    """What is served beside health and reflection: full name → method → its grpc_type."""
    services = (BERT_SERVICE, OPEN_INFERENCE) if settings.open_inference else (BERT_SERVICE,)
    return {
        service.full_name: {
            method.name: "bidi_stream" if method.client_streaming else "unary" for method in service.methods
        }
        for service in services
    }


def _add_services(grpc_server: grpc.aio.Server, serving: Serving, services: dict[str, dict[str, str]]) -> None:
    bert_service_pb2_grpc.add_BertServiceServicer_to_server(BertServicer(serving), grpc_server)
    if OPEN_INFERENCE.full_name in services:
        inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceServicer(serving), grpc_server)
    health = HealthServicer(services)
    serving.watch_ready(health.set)
    health_pb2_grpc.add_HealthServicer_to_server(health, grpc_server)
    add_reflection(grpc_server, (*services, HEALTH))
