"""OpenTelemetry spans, as a real collector on loopback receives them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from servers import PLAIN, RunningServer, running_server

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["tokenize", "queue", "infer", "finish"]


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP receiver."""

    spans: list[Span] = field(default_factory=list)

    def Export(self, request, context):  # noqa: ARG002, N802
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace(self, trace_id: str, count: int) -> list[Span]:
        """Its spans, once there are as many."""
        for _ in range(300):
            found = [span for span in tuple(self.spans) if span.trace_id.hex() == trace_id]
            if len(found) >= count:
                return sorted(found, key=lambda span: span.start_time_unix_nano)
            threading.Event().wait(0.05)
        raise AssertionError(f"{len(self.spans)} spans, none of that trace")


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    receiver = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture(scope="module")
def traced(collector: tuple[Collector, str]) -> Iterator[RunningServer]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector[1],
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_SERVICE_NAME": "bert",
        "no_proxy": "127.0.0.1",
    }
    with running_server(PLAIN, "--tracing", environment=environment) as running:
        yield running


def embed(target: str, *texts: str, trace_id: str = TRACE_ID, flags: str = "01") -> str:
    metadata = [("traceparent", f"00-{trace_id}-{PARENT_ID}-{flags}")]
    with grpc.insecure_channel(target) as channel:
        request = pb.EmbedRequest(inputs=[pb.TextInput(text=text) for text in texts])
        return pb_grpc.BertServiceStub(channel).Embed.future(request, timeout=30, metadata=metadata).code().name


def test_a_call_is_a_span_of_its_callers_trace_with_a_child_a_stage(
    collector: tuple[Collector, str], traced: RunningServer
) -> None:
    """`traceparent` is honoured; the stages lie within the call, one after the other."""
    assert embed(traced.target, "the cat") == "OK"
    spans = collector[0].trace(TRACE_ID, 5)
    server = next(span for span in spans if span.kind == Span.SPAN_KIND_SERVER)
    assert server.name == "bertapi.v1.BertService/Embed"
    assert server.parent_span_id.hex() == PARENT_ID
    stages = [span for span in spans if span is not server]
    assert [span.name for span in stages] == STAGES
    assert {span.parent_span_id for span in stages} == {server.span_id}
    for span in stages:
        assert server.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= server.end_time_unix_nano


def test_refused_call_is_a_span_with_its_status(collector: tuple[Collector, str], traced: RunningServer) -> None:
    """A caller's fault is no error of the server's; no text is among the attributes."""
    trace_id = "1" * 32
    assert embed(traced.target, "", trace_id=trace_id) == "INVALID_ARGUMENT"
    (span,) = collector[0].trace(trace_id, 1)
    attributes = {attribute.key: attribute.value for attribute in span.attributes}
    assert attributes["rpc.grpc.status_code"].int_value == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert span.status.code == 0
    assert set(attributes) == {"rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"}
    assert not span.events


def test_caller_decides_what_is_sampled(collector: tuple[Collector, str], traced: RunningServer) -> None:
    """The standard sampler follows the parent."""
    assert embed(traced.target, "the cat", trace_id="2" * 32, flags="00") == "OK"
    assert embed(traced.target, "the cat", trace_id="3" * 32) == "OK"
    collector[0].trace("3" * 32, 5)
    assert not [span for span in collector[0].spans if span.trace_id.hex() == "2" * 32]


def test_last_spans_are_sent_before_the_server_ends(collector: tuple[Collector, str]) -> None:
    """Nothing is lost with a drain."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector[1], "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with running_server(PLAIN, "--tracing", environment=environment) as server:
        assert embed(server.target, "the cat", trace_id="4" * 32) == "OK"
        assert server.stop() == 0
    collector[0].trace("4" * 32, 5)


def test_nothing_is_imported_unless_switched_on() -> None:
    """Nor needs to be installed."""
    code = "import sys, bertserve.server; assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
