"""What Prometheus scrapes from a running server."""

from __future__ import annotations

import asyncio
import re
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.doors.http.probes import Probes
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from servers import RunningServer

# Fixed: dashboards, alerts and autoscalers refer to them.
NAMES = {
    "grpc_server_started",
    "grpc_server_handled",
    "grpc_server_handling_seconds",
    "bertserve_queue_tokens",
    "bertserve_queue_items",
    "bertserve_queue_oldest_seconds",
    "bertserve_estimated_wait_seconds",
    "bertserve_batch_tokens",
    "bertserve_batch_items",
    "bertserve_stage_seconds",
    "bertserve_tokens",
    "bertserve_rejected",
    "bertserve_dropped",
    "bertserve_engine_failures",
    "bertserve_engine_busy_seconds",
    "bertserve_model_info",
    "bertserve_ready",
    "bertserve_lanes_lost",
    "bertserve_reloads",
    "bertserve_stale_files",
    "process_resident_memory_bytes",
    "process_cpu_seconds",
}
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["BertService"].methods]


def test_every_named_metric_is_exposed(server: RunningServer) -> None:
    """From the first scrape on, before any call."""
    families = {family.name for family in text_string_to_metric_families(server.page("/metrics")[1])}
    assert families >= NAMES


def test_readiness_is_a_series(server: RunningServer) -> None:
    """What /readyz answers, for alerts."""
    assert server.page("/readyz")[0] == 200
    assert server.sample("bertserve_ready") == 1


def test_every_method_has_a_series_for_every_code(server: RunningServer) -> None:
    """Zero is a value; rates are right from the first event."""
    page = server.page("/metrics")[1]
    for method in METHODS:
        codes = set(re.findall(rf'grpc_server_handled_total{{grpc_code="(\w+)",grpc_method="{method}"', page))
        assert {"OK", "Canceled", "InvalidArgument", "ResourceExhausted", "Unavailable", "Internal"} <= codes
        assert len(codes) == len(grpc.StatusCode)


async def test_page_that_cannot_be_made_is_an_error_with_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    """Prometheus sees a failed scrape, the log holds its cause."""

    def fail() -> bool:
        raise RuntimeError("no such gauge")

    probes = Probes("127.0.0.1", 0, CollectorRegistry(), is_alive=fail, is_ready=fail)
    try:
        with pytest.raises(HTTPError) as caught:
            await asyncio.to_thread(urlopen, f"http://127.0.0.1:{probes.port}/livez", timeout=30)
        with caught.value as answer:
            assert answer.code == 500
    finally:
        probes.stop()
    assert caplog.messages == ["a page of the metrics port failed"]


@pytest.mark.parametrize("stage", ["tokenize", "queue", "infer", "finish"])
def test_every_stage_of_a_request_is_timed(server: RunningServer, stub: pb_grpc.BertServiceStub, stage: str) -> None:
    """One observation a request and stage."""
    series = f'bertserve_stage_seconds_count{{model="plain",stage="{stage}"}}'
    before = server.sample(series)
    stub.Embed(pb.EmbedRequest(model="plain", inputs=[pb.TextInput(text="cat")]), timeout=30)
    assert server.sample(series) == before + 1


def test_answered_calls_are_counted_by_code(server: RunningServer, stub: pb_grpc.BertServiceStub) -> None:
    """started and handled grow together."""
    labels = 'grpc_method="ListModels",grpc_service="bertapi.v1.BertService",grpc_type="unary"'
    started, handled = f"grpc_server_started_total{{{labels}}}", f'grpc_server_handled_total{{grpc_code="OK",{labels}}}'
    before = server.sample(started), server.sample(handled)
    stub.ListModels(pb.ListModelsRequest(), timeout=30)
    assert (server.sample(started), server.sample(handled)) == (before[0] + 1, before[1] + 1)


def test_model_info_names_the_bundle(server: RunningServer, stub: pb_grpc.BertServiceStub) -> None:
    """Its id, family, precision and source, as GetModel gives them."""
    model = stub.GetModel(pb.GetModelRequest(model="plain"), timeout=30).model
    labels = f'bundle_id="{model.bundle_id}",family="bert",model="plain",precision="fp32",source="{model.source}"'
    assert server.sample(f"bertserve_model_info{{{labels}}}") == 1
