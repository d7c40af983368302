"""The server: puts the parts together, says when it is ready, and leaves without losing a call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import asdict, dataclass
from functools import partial

import grpc
from bertapi.oip import inference_pb2, inference_pb2_grpc
from bertapi.v1 import bert_service_pb2, bert_service_pb2_grpc
from grpc_health.v1 import health_pb2_grpc

from bertserve.batching.batcher import Batcher
from bertserve.batching.policy import BatchLimits
from bertserve.doors.drain import OpenCalls
from bertserve.doors.grpc.bert.service import BertServicer
from bertserve.doors.grpc.chain.counting import MetricsInterceptor
from bertserve.doors.grpc.chain.translation import StatusInterceptor
from bertserve.doors.grpc.health import HEALTH, HealthServicer
from bertserve.doors.grpc.oip.service import InferenceServicer
from bertserve.doors.grpc.port import ServerError, bind, join_address, make_grpc_server, open_guards
from bertserve.doors.grpc.reflection import add_reflection
from bertserve.doors.http.probes import Probes
from bertserve.engine.contract import LanePlan
from bertserve.engine.golden import prove_golden
from bertserve.engine.lanes import Lanes
from bertserve.loading import find_memory_shortage, load_models, measure_speed
from bertserve.models import Models, ServedModel
from bertserve.observe.logs import log, log_error, log_warning
from bertserve.observe.metrics import Metrics
from bertserve.process.cores import usable_cores
from bertserve.process.descriptors import allow_connections
from bertserve.process.memory import read_memory_limit
from bertserve.settings import Settings, named_bundles
from bertserve.supervision.supervisor import Supervisor
from bertserve.tasks.analysis import Analyzer
from bertserve.tasks.limits import Limits
from bertserve.tuning import find_plan

BERT_SERVICE = bert_service_pb2.DESCRIPTOR.services_by_name["BertService"]
OPEN_INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

# Before the port closes: how long no call may have come or ended, and how long to wait for that at most.
QUIET_SECONDS = 0.1
QUIET_TIMEOUT_SECONDS = 2.0

# Of a lost engine's callers, to receive their status.
ABANDON_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the server really listens."""

    grpc: str
    metrics: str


class Server:
    """A server that is ready. Made by `open_server`."""

    def __init__(
        self, settings: Settings, grpc_server: grpc.aio.Server, health: HealthServicer,
        open_calls: OpenCalls, supervisor: Supervisor, addresses: Addresses,
    ) -> None:  # fmt: skip
        self.addresses = addresses
        self.engine_lost = supervisor.has_given_up
        self._settings = settings
        self._grpc_server = grpc_server
        self._health = health
        self._open_calls = open_calls

    async def drain(self) -> None:
        """NOT_SERVING, a pause in which all is still served, then no new calls; returns once the open ones ended."""
        log("draining", open_calls=self._open_calls.count)
        self._open_calls.is_leaving = True
        self._health.leave()
        await asyncio.sleep(self._settings.drain_pause)
        self._open_calls.draining.set()
        if not await self._open_calls.wait_for_none(self._settings.grace):
            log("grace is over", open_calls=self._open_calls.count)
        await self._open_calls.wait_for_quiet(QUIET_SECONDS, QUIET_TIMEOUT_SECONDS)
        await self._grpc_server.stop(grace=0)

    async def lost(self) -> None:
        """Returns once nobody can be served any more: the engine is lost, or gRPC has closed its port by itself."""
        closed = asyncio.create_task(self._grpc_server.wait_for_termination())
        ends = (closed, asyncio.create_task(self.engine_lost.wait()))
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if closed.done() and not self._open_calls.is_leaving:
            log_error("gRPC has closed its port, the process ends")

    async def abandon(self) -> None:
        """Send what the callers of a lost engine are told, and no more."""
        await self._open_calls.wait_for_none(ABANDON_SECONDS)


@contextlib.asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[Server]:
    """Load every bundle, then serve. Raises BundleError, SettingsError or ServerError before anything is served."""
    bundles = named_bundles(settings)
    allow_connections(settings.max_connections)
    metrics = Metrics()
    guards = open_guards(settings, metrics)
    cores = usable_cores()
    loop = asyncio.get_running_loop()
    plan = await loop.run_in_executor(None, find_plan, settings, next(iter(bundles.values())), cores)
    lanes = _open_lanes(plan, cores)
    served = await loop.run_in_executor(None, load_models, bundles, plan.lane_threads)
    _warn_of_memory(settings, plan, served)
    batcher = _make_batcher(settings, plan, lanes, served, metrics)
    analyzer = Analyzer(batcher, _limits(settings), metrics)
    open_calls = OpenCalls()
    services = _services(settings)
    health = HealthServicer(services)
    proofs = [partial(prove_golden, model.engine, model.golden) for model in served]
    supervisor = Supervisor(lanes, batcher, proofs, settings.stall_seconds, metrics, on_ready=health.set)
    is_ready = partial(_is_ready, supervisor, open_calls)
    grpc_server = make_grpc_server(settings, guards, _interceptors(settings, metrics, open_calls, services))
    bert = BertServicer(Models(served), analyzer, metrics, open_calls.draining)
    inference = InferenceServicer(Models(served), analyzer, metrics, lambda: supervisor.is_alive, is_ready)
    _add_services(grpc_server, services, bert, inference, health)
    port = bind(grpc_server, settings, guards)
    probes = _open_probes(settings, metrics, supervisor, is_ready)
    addresses = _addresses(settings, port, probes.port)
    try:
        health.set(True)
        await grpc_server.start()
        yield Server(settings, grpc_server, health, open_calls, supervisor, addresses)
    finally:
        supervisor.stop()
        await grpc_server.stop(grace=0)
        guards.stop()
        probes.stop()
        analyzer.stop()
        lanes.stop()


def _interceptors(
    settings: Settings, metrics: Metrics, open_calls: OpenCalls, services: dict[str, dict[str, str]]
) -> list[grpc.aio.ServerInterceptor]:
    return [
        MetricsInterceptor(metrics, services),
        StatusInterceptor(open_calls, metrics, services, settings.max_inputs, settings.max_response_bytes),
    ]


def _addresses(settings: Settings, grpc_port: int, metrics_port: int) -> Addresses:
    return Addresses(
        grpc=join_address(settings.host, grpc_port),
        metrics=join_address(settings.metrics_host or settings.host, metrics_port),
    )


def _open_lanes(plan: LanePlan, cores: int) -> Lanes:
    log("lanes", **asdict(plan), cores=cores)
    return Lanes(plan.lanes)


def _services(settings: Settings) -> dict[str, dict[str, str]]:
    """What is served beside health and reflection: full name → method → its grpc_type."""
    services = (BERT_SERVICE, OPEN_INFERENCE) if settings.open_inference else (BERT_SERVICE,)
    return {
        service.full_name: {
            method.name: "bidi_stream" if method.client_streaming else "unary" for method in service.methods
        }
        for service in services
    }


def _is_ready(supervisor: Supervisor, open_calls: OpenCalls) -> bool:
    return supervisor.is_ready and not open_calls.is_leaving


def _make_batcher(
    settings: Settings, plan: LanePlan, lanes: Lanes, served: list[ServedModel], metrics: Metrics
) -> Batcher:
    limits = BatchLimits(batch_tokens=plan.batch_tokens, overtaken_seconds=settings.max_wait_overtaken)
    batcher = Batcher(lanes, limits, settings.queue_tokens, metrics)
    for model in served:
        manifest = model.bundle.manifest
        metrics.add_model(
            model.name, manifest.bundle_id, model.facts.family, model.facts.precision, manifest.source.model
        )
        batcher.add_model(model.name, model.engine, measure_speed(model))
        log("model loaded", model=model.name, bundle_id=manifest.bundle_id, precision=model.facts.precision)
        if settings.queue_tokens < (longest := model.facts.max_tokens):
            log_warning("the longest texts are refused, for none could wait", model=model.name,
                        max_tokens=longest, queue_tokens=settings.queue_tokens)  # fmt: skip
    return batcher


def _warn_of_memory(settings: Settings, plan: LanePlan, served: list[ServedModel]) -> None:
    shortage = find_memory_shortage(
        served, read_memory_limit(), plan.lanes, queue_tokens=settings.queue_tokens, batch_tokens=plan.batch_tokens
    )
    if shortage is not None:
        log_warning(
            "the memory limit is lower than the largest batches need, so the kernel may end the process; raise the "
            "limit, or lower --lanes, --batch-tokens or --queue-tokens",
            **asdict(shortage),
            lanes=plan.lanes,
        )


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_inputs=settings.max_inputs,
        max_characters=settings.max_characters,
        max_top_k=settings.max_top_k,
        max_response_bytes=settings.max_response_bytes,
    )


def _add_services(
    grpc_server: grpc.aio.Server, services: Collection[str], bert: BertServicer, inference: InferenceServicer,
    health: HealthServicer,
) -> None:  # fmt: skip
    bert_service_pb2_grpc.add_BertServiceServicer_to_server(bert, grpc_server)
    if OPEN_INFERENCE.full_name in services:
        inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, grpc_server)
    health_pb2_grpc.add_HealthServicer_to_server(health, grpc_server)
    add_reflection(grpc_server, (*services, HEALTH))


def _open_probes(settings: Settings, metrics: Metrics, supervisor: Supervisor, is_ready: Callable[[], bool]) -> Probes:
    host = settings.metrics_host or settings.host
    metrics.watch_ready(is_ready)
    try:
        return Probes(
            host,
            settings.metrics_port,
            metrics.registry,
            is_alive=lambda: supervisor.is_alive,
            is_ready=is_ready,
        )
    except OSError as error:
        address = join_address(host, settings.metrics_port)
        raise ServerError(
            f"cannot listen on {address} ({error.strerror}); choose others with --metrics-port and --metrics-host"
        ) from error
