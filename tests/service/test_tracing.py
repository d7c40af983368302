"""OpenTelemetry spans, as a real collector on loopback receives them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from itertools import pairwise

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


def parent(trace_id: str, flags: str = "01") -> list[tuple[str, str]]:
    return [("traceparent", f"00-{trace_id}-{PARENT_ID}-{flags}")]


def embed(target: str, *texts: str, trace_id: str = TRACE_ID, flags: str = "01") -> pb.Timings:
    """The answer's own timings."""
    with grpc.insecure_channel(target) as channel:
        request = pb.EmbedRequest(inputs=[pb.TextInput(text=text) for text in texts])
        stub = pb_grpc.BertServiceStub(channel)
        return stub.Embed(request, timeout=30, metadata=parent(trace_id, flags)).info.timings


def test_a_call_is_a_span_of_its_callers_trace_with_a_child_a_stage(
    collector: tuple[Collector, str], traced: RunningServer
) -> None:
    """`traceparent` is honoured; the stages lie within the call, one after the other."""
    embed(traced.target, "the cat")
    spans = collector[0].trace(TRACE_ID, 5)
    server = next(span for span in spans if span.kind == Span.SPAN_KIND_SERVER)
    assert server.name == "bertapi.v1.BertService/Embed"
    assert server.parent_span_id.hex() == PARENT_ID
    stages = [span for span in spans if span is not server]
    assert [span.name for span in stages] == STAGES
    assert {span.parent_span_id for span in stages} == {server.span_id}
    follow_each_other(server, stages)


def follow_each_other(server: Span, stages: list[Span]) -> None:
    """Within the call, each from where the one before ends."""
    assert server.start_time_unix_nano <= stages[0].start_time_unix_nano
    for before, after in pairwise(stages):
        assert before.start_time_unix_nano <= before.end_time_unix_nano == after.start_time_unix_nano
    assert stages[-1].start_time_unix_nano <= stages[-1].end_time_unix_nano <= server.end_time_unix_nano


def test_stages_of_many_batches_follow_each_other(collector: tuple[Collector, str], traced: RunningServer) -> None:
    """The answer's own stages in length, though lanes finish items of one batch while the next one runs."""
    trace_id = "5" * 32
    timings = embed(traced.target, *["the cat sat on the mat " * 15] * 500, trace_id=trace_id)
    server, *stages = collector[0].trace(trace_id, 5)
    follow_each_other(server, stages)
    lengths = {span.name: (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for span in stages}
    for stage in ("tokenize", "queue", "infer"):
        assert lengths[stage] == pytest.approx(getattr(timings, stage).ToTimedelta().total_seconds(), abs=2e-6)
    (attribute,) = stages[-1].attributes
    assert attribute.value.double_value == pytest.approx(timings.finish.ToTimedelta().total_seconds(), abs=2e-6)


def test_tokens_alone_are_neither_queued_nor_run(collector: tuple[Collector, str], traced: RunningServer) -> None:
    """And have no spans of that."""
    trace_id = "6" * 32
    with grpc.insecure_channel(traced.target) as channel:
        request = pb.TokenizeRequest(inputs=[pb.TextInput(text="the cat")])
        pb_grpc.BertServiceStub(channel).Tokenize(request, timeout=30, metadata=parent(trace_id))
    server, *stages = collector[0].trace(trace_id, 3)
    assert [span.name for span in stages] == ["tokenize", "finish"]
    follow_each_other(server, stages)


def test_a_stream_is_one_span_with_its_counts(collector: tuple[Collector, str], traced: RunningServer) -> None:
    """However it ends; a bad input is a message like any other."""
    options = pb.AnalyzeOptions(embed=pb.EmbedOptions())
    requests = [
        pb.StreamAnalyzeRequest(input=pb.TextInput(text=text), options=options) for text in ("the cat", "", "the dog")
    ]
    never_ended = threading.Event()

    def send_on() -> Iterator[pb.StreamAnalyzeRequest]:
        yield from requests
        never_ended.wait(30)

    with grpc.insecure_channel(traced.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        assert len(list(stub.StreamAnalyze(iter(requests), timeout=30, metadata=parent("7" * 32)))) == 3
        left = stub.StreamAnalyze(send_on(), timeout=30, metadata=parent("8" * 32))
        for _ in range(3):
            next(left)
        left.cancel()
        never_ended.set()
    # gRPC ends the requests of a caller who left just before it says that he did, so that his stream may end as well.
    for trace_id, codes in (
        ("7" * 32, {grpc.StatusCode.OK}), ("8" * 32, {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK})
    ):  # fmt: skip
        (span,) = collector[0].trace(trace_id, 1)
        values = {attribute.key: attribute.value.int_value for attribute in span.attributes}
        assert (span.name, span.kind) == ("bertapi.v1.BertService/StreamAnalyze", Span.SPAN_KIND_SERVER)
        assert span.parent_span_id.hex() == PARENT_ID
        assert (values["bertserve.requests"], values["bertserve.responses"]) == (3, 3)
        assert values["rpc.grpc.status_code"] in {code.value[0] for code in codes}


def test_refused_call_is_a_span_with_its_status(collector: tuple[Collector, str], traced: RunningServer) -> None:
    """A caller's fault is no error of the server's; no text is among the attributes."""
    trace_id = "1" * 32
    with pytest.raises(grpc.RpcError):
        embed(traced.target, "", trace_id=trace_id)
    (span,) = collector[0].trace(trace_id, 1)
    attributes = {attribute.key: attribute.value for attribute in span.attributes}
    assert attributes["rpc.grpc.status_code"].int_value == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert span.status.code == 0
    assert set(attributes) == {"rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"}
    assert not span.events


def test_caller_decides_what_is_sampled(collector: tuple[Collector, str], traced: RunningServer) -> None:
    """The standard sampler follows the parent."""
    embed(traced.target, "the cat", trace_id="2" * 32, flags="00")
    embed(traced.target, "the cat", trace_id="3" * 32)
    collector[0].trace("3" * 32, 5)
    assert not [span for span in collector[0].spans if span.trace_id.hex() == "2" * 32]


def test_last_spans_are_sent_before_the_server_ends(collector: tuple[Collector, str]) -> None:
    """Nothing is lost with a drain."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector[1], "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with running_server(PLAIN, "--tracing", environment=environment) as server:
        embed(server.target, "the cat", trace_id="4" * 32)
        assert server.stop() == 0
    collector[0].trace("4" * 32, 5)


def test_nothing_is_imported_unless_switched_on() -> None:
    """Nor needs to be installed."""
    code = "import sys, bertserve.server; assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
