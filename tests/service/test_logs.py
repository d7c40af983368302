"""What the server writes to stderr: one JSON object a line, ids to follow a request by, and never a caller's text."""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from bertapi.oip import inference_pb2 as oip
from bertapi.oip import inference_pb2_grpc as oip_grpc
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.observe.logs import JsonFormatter, LineWriter
from open_inference import infer_request, tensor
from servers import CLASSIFIER, PRETRAINING, RunningServer, running_server

SECRET = "Xylophonquartett"  # stands in no bundle's vocabulary
EXPECTED_STAGES = {"tokenize_seconds", "queue_seconds", "infer_seconds", "finish_seconds"}


@pytest.fixture(scope="module")
def talkative() -> Iterator[RunningServer]:
    with running_server(PRETRAINING, CLASSIFIER, "--open-inference", "--log-level", "debug") as running:
        yield running


def embed(target: str, request_id: str | None = None) -> tuple[str, str]:
    """The id in the trailing metadata, and the status."""
    metadata = [] if request_id is None else [("x-request-id", request_id)]
    with grpc.insecure_channel(target) as channel:
        call = pb_grpc.BertServiceStub(channel).Embed.future(
            pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat")]), timeout=30, metadata=metadata
        )
        return dict(call.trailing_metadata())["x-request-id"], call.code().name


def lines_of(server: RunningServer, condition: Callable[[dict], bool]) -> list[dict]:
    """The lines of which the condition holds, once there is one."""
    for _ in range(200):
        found = [line for line in map(json.loads, tuple(server.log)) if condition(line)]
        if found:
            return found
        threading.Event().wait(0.05)
    raise AssertionError("no such line")


def test_id_of_the_caller_is_kept(talkative: RunningServer) -> None:
    """In the trailing metadata and in the line of the call, which says where the time went."""
    assert embed(talkative.target, "6f1c9f9e-1.a:b") == ("6f1c9f9e-1.a:b", "OK")
    (line,) = lines_of(talkative, lambda line: line.get("request_id") == "6f1c9f9e-1.a:b")
    assert line["level"] == "debug"
    assert line["method"] == "/bertapi.v1.BertService/Embed"
    assert (line["code"], line["model"]) == ("OK", "pretraining")
    assert line.keys() >= EXPECTED_STAGES
    assert sum(line[stage] for stage in EXPECTED_STAGES) <= line["seconds"]
    assert line["peer"].startswith("ipv4:127.0.0.1:")


def test_tensors_leave_the_same_line(talkative: RunningServer) -> None:
    """A call of the Open Inference Protocol says its model and stages too; one that asks no model says none."""
    with grpc.insecure_channel(talkative.target) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(infer_request(["the cat"]), timeout=30, metadata=[("x-request-id", "tensors")])
        stub.ServerReady(oip.ServerReadyRequest(), timeout=30, metadata=[("x-request-id", "probe")])
    (line,) = lines_of(talkative, lambda line: line.get("request_id") == "tensors")
    assert line["method"] == "/inference.GRPCInferenceService/ModelInfer"
    assert (line["code"], line["model"]) == ("OK", "pretraining")
    assert line.keys() >= EXPECTED_STAGES
    (probe,) = lines_of(talkative, lambda line: line.get("request_id") == "probe")
    assert probe["code"] == "OK"
    assert not probe.keys() & {"model", *EXPECTED_STAGES}


@pytest.mark.parametrize("given", [None, "", "two words", 'quote"', "x" * 65, "a/b"])
def test_anything_else_gets_an_id_of_its_own(talkative: RunningServer, given: str | None) -> None:
    """Different for every call, and never what might be text."""
    first, second = embed(talkative.target, given)[0], embed(talkative.target, given)[0]
    assert first != second
    assert all(len(request_id) == 16 and int(request_id, 16) >= 0 for request_id in (first, second))


def test_refused_call_has_its_id_and_line_too(talkative: RunningServer) -> None:
    """With its status; the details of the refusal come through beside the id."""
    with grpc.insecure_channel(talkative.target) as channel:
        call = pb_grpc.BertServiceStub(channel).Embed.future(pb.EmbedRequest(), timeout=30)
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        metadata = dict(call.trailing_metadata())
    assert "grpc-status-details-bin" in metadata
    (line,) = lines_of(talkative, lambda line: line.get("request_id") == metadata["x-request-id"])
    assert line["code"] == "INVALID_ARGUMENT"


def test_calls_are_not_logged_unless_asked_for(server: RunningServer) -> None:
    """At level info a call leaves no line; metrics count it."""
    before = len(server.log)
    embed(server.target)
    threading.Event().wait(0.2)
    assert len(server.log) == before


def test_caller_who_leaves_a_stream_unread_leaves_no_error(talkative: RunningServer) -> None:
    """Though an answer was on its way to him."""
    options = pb.AnalyzeOptions(embed=pb.EmbedOptions(pooling=pb.POOLING_NONE, layers=[0, 1, 2]))
    text = pb.TextInput(text="the cat sat " * 15)
    request = pb.StreamAnalyzeRequest(model="pretraining", input=text, options=options)
    series, before = 'bertserve_tokens_total{model="pretraining"}', -1.0
    with grpc.insecure_channel(talkative.target) as channel:
        call = pb_grpc.BertServiceStub(channel).StreamAnalyze(itertools.repeat(request))
        next(call)
        while (tokens := talkative.sample(series)) != before:  # until the connection takes no more
            before = tokens
            threading.Event().wait(0.3)
        call.cancel()
    threading.Event().wait(0.5)
    assert not [line for line in talkative.log if '"a library reports"' in line]
    assert talkative.process.poll() is None


def requests_with(text: str) -> list[tuple[str, object]]:
    """The text in every place that a request has for one, in requests that succeed and that fail."""
    plain = pb.TextInput(text=f"{text} the cat")
    masked = pb.TextInput(text=f"{text} [MASK]", text_pair=text)
    return [
        ("Embed", pb.EmbedRequest(inputs=[plain])),
        ("Embed", pb.EmbedRequest(inputs=[pb.TextInput(text=f"{text} " * 2000)])),
        ("Embed", pb.EmbedRequest(inputs=[plain, pb.TextInput()])),
        ("Embed", pb.EmbedRequest(model=text, inputs=[plain])),
        ("FillMask", pb.FillMaskRequest(inputs=[masked], options=pb.FillMaskOptions(targets=["cat"]))),
        ("FillMask", pb.FillMaskRequest(inputs=[masked], options=pb.FillMaskOptions(targets=[text]))),
        ("FillMask", pb.FillMaskRequest(inputs=[plain])),
        ("ScoreNextSentence", pb.ScoreNextSentenceRequest(first=text, candidates=[text])),
        ("Classify", pb.ClassifyRequest(inputs=[plain])),
        ("Classify", pb.ClassifyRequest(model="classifier", inputs=[plain])),
        ("Tokenize", pb.TokenizeRequest(inputs=[plain])),
        ("GetModel", pb.GetModelRequest(model=text)),
    ]


def tensors_with(text: str) -> list[oip.ModelInferRequest]:
    """The same for the Open Inference Protocol."""
    return [
        infer_request([text], [f"{text} [MASK]"]),
        infer_request([f"{text} " * 2000]),
        infer_request([text, ""]),
        infer_request([text], model=text),
        infer_request([text], outputs=[text]),
        infer_request([text], pooling=text),
        infer_request([text], **{text: text}),
        oip.ModelInferRequest(inputs=[tensor(text, 1)]),
    ]


def test_no_text_of_callers_reaches_the_log() -> None:
    """At any level, whether the call is answered, refused or garbled."""
    with running_server(PRETRAINING, CLASSIFIER, "--open-inference", "--log-level", "debug") as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = pb_grpc.BertServiceStub(channel)
            codes = set()
            for method, request in requests_with(SECRET):
                call = getattr(stub, method).future(request, timeout=30, metadata=[("x-request-id", f"{SECRET} id")])
                codes.add(call.code().name)
            for request in tensors_with(SECRET):
                oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request, timeout=30).exception()
            garbled = channel.unary_unary("/bertapi.v1.BertService/Embed").future(b"\xff" + SECRET.encode(), timeout=30)
            codes.add(garbled.code().name)
            unknown = channel.unary_unary(f"/{SECRET}/{SECRET}").future(SECRET.encode(), timeout=30)
            codes.add(unknown.code().name)
        assert server.stop() == 0
        assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"} <= codes
        log = "".join(server.log)
        assert log.count('"message": "call"') >= len(requests_with(SECRET)) + len(tensors_with(SECRET))
        assert SECRET.lower() not in log.lower()


def test_libraries_log_without_what_they_say() -> None:
    """asyncio and gRPC write reprs and messages that may quote anything: the template and the frames are enough."""
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        caught = (ValueError, error, error.__traceback__)
    for record in (
        logging.LogRecord("asyncio", logging.ERROR, "", 0, f"exception in {SECRET}", (), caught),
        logging.LogRecord("grpc._cython", logging.ERROR, "", 0, "raised %s", (SECRET,), caught),
    ):
        line = json.loads(JsonFormatter().format(record))
        assert SECRET not in json.dumps(line)
        assert (line["message"], line["library"], line["exception"]) == ("a library reports", record.name, "ValueError")
        assert line["traceback"]
        assert line.get("template") == ("raised %s" if record.args else None)


def write(writer: LineWriter, message: str) -> None:
    writer.emit(logging.LogRecord("bertserve", logging.INFO, "", 0, message, (), None))


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "non-blocking"])
def test_lost_lines_are_counted_once_the_reader_is_back(blocking: bool) -> None:
    """Every line is written or counted, none is torn."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    writer = LineWriter(writing, max_waiting_lines=10)
    for number in range(5000):
        write(writer, f"line {number}")
    reader = os.fdopen(reading)
    lines: list[dict] = []
    thread = threading.Thread(target=lambda: lines.extend(map(json.loads, reader)))
    thread.start()
    writer.wait_until_written(30)
    write(writer, "the last line")
    writer.wait_until_written(30)
    os.close(writing)
    thread.join(timeout=30)
    reader.close()
    lost = sum(line.get("lines", 0) for line in lines)
    written = [line for line in lines if line["message"] != "log lines were lost"]
    assert lost > 0
    assert len(written) + lost == 5001
    assert written[-1]["message"] == "the last line"


def test_full_disk_loses_lines_and_nothing_else() -> None:
    """/dev/full refuses every byte; the writer goes on."""
    with Path("/dev/full").open("wb") as full:
        writer = LineWriter(full.fileno())
        write(writer, "nobody will read this")
        writer.wait_until_written(10)
        write(writer, "nor this")
        writer.wait_until_written(10)
