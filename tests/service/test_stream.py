"""StreamAnalyze: answers under their ids, bad inputs that fail alone, flow control, drain, and a caller who leaves."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.doors.grpc.bert.stream import Accepted, Stream
from bertserve.doors.statuses import INTERNAL_TEXT
from google.rpc import code_pb2
from servers import PRETRAINING, RunningServer, running_server

EMBED = pb.AnalyzeOptions(embed=pb.EmbedOptions())
LABELS = 'grpc_method="StreamAnalyze",grpc_service="bertapi.v1.BertService",grpc_type="bidi_stream"'


def ask(number: int, text: str = "the cat sat", **fields: object) -> pb.StreamAnalyzeRequest:
    options = fields.pop("options", EMBED)
    return pb.StreamAnalyzeRequest(id=str(number), input=pb.TextInput(text=text), options=options, **fields)  # type: ignore[arg-type]


def test_every_input_is_answered_under_its_id(stub: pb_grpc.BertServiceStub) -> None:
    """Once each, in whatever order, and as Analyze answers it."""
    texts = ["the cat sat on the mat " * (1 + number % 9) for number in range(300)]
    answers = list(stub.StreamAnalyze((ask(n, text) for n, text in enumerate(texts)), timeout=60))
    assert sorted(int(answer.id) for answer in answers) == list(range(300))
    request = pb.AnalyzeRequest(inputs=[pb.TextInput(text=text) for text in texts], options=EMBED)
    analyses = stub.Analyze(request, timeout=60).analyses
    for answer in answers:
        assert answer.analysis == analyses[int(answer.id)]
        assert answer.info.model == "pretraining"
        assert answer.info.bundle_id


BAD = {
    "no token": (ask(1, ""), "INVALID_ARGUMENT", "input.text"),
    "too long": (ask(1, "cat " * 500), "INVALID_ARGUMENT", "input.text"),
    "nothing asked": (ask(1, options=pb.AnalyzeOptions()), "INVALID_ARGUMENT", "options"),
    "no input": (pb.StreamAnalyzeRequest(id="1", options=EMBED), "INVALID_ARGUMENT", "input.text"),
    "no such layer": (
        ask(1, options=pb.AnalyzeOptions(embed=pb.EmbedOptions(layers=[99]))),
        "INVALID_ARGUMENT",
        "options.embed.layers[0]",
    ),
    "no such head": (ask(1, options=pb.AnalyzeOptions(classify=True)), "FAILED_PRECONDITION", ""),
    "no such model": (ask(1, model="nobody"), "NOT_FOUND", ""),
}


@pytest.mark.parametrize(("bad", "code", "field"), BAD.values(), ids=BAD.keys())
def test_bad_input_fails_alone(
    stub: pb_grpc.BertServiceStub, bad: pb.StreamAnalyzeRequest, code: str, field: str
) -> None:
    """With the code, the message and the field that Analyze would refuse it with; its neighbours are answered."""
    answers = {answer.id: answer for answer in stub.StreamAnalyze(iter([ask(0), bad, ask(2)]), timeout=60)}
    assert code_pb2.Code.Name(answers["1"].error.code) == code
    assert answers["1"].error.message
    assert answers["1"].error.field == field
    assert answers["0"].HasField("analysis")
    assert answers["2"].HasField("analysis")


async def test_bug_that_one_input_meets_fails_it_alone() -> None:
    """Before it is let in as well as after; its caller learns nothing of it."""

    async def accept(request: pb.StreamAnalyzeRequest) -> Accepted:
        async def answer() -> pb.StreamAnalyzeResponse:
            if request.id == "after":
                raise RuntimeError("a secret")
            return pb.StreamAnalyzeResponse(id=request.id)

        if request.id == "before":
            raise RuntimeError("a secret")
        return Accepted(tokens=1, response_bytes=1, answer=answer)

    async def requests() -> AsyncIterator[pb.StreamAnalyzeRequest]:
        for name in ("before", "after", "fine"):
            yield pb.StreamAnalyzeRequest(id=name)

    stream = Stream(accept, asyncio.Event(), window_tokens=100)
    answers = {answer.id: answer.error async for answer in stream.answers(requests())}
    assert {name: error.code for name, error in answers.items()} == {
        "before": code_pb2.INTERNAL,
        "after": code_pb2.INTERNAL,
        "fine": code_pb2.OK,
    }
    assert answers["before"].message == answers["after"].message == INTERNAL_TEXT


def test_inputs_of_one_stream_may_ask_differently(stub: pb_grpc.BertServiceStub) -> None:
    """Another model, another head; each answer holds what its input asked."""
    requests = [
        ask(0),
        ask(1, model="classifier", options=pb.AnalyzeOptions(classify=True)),
        ask(2, "the [MASK] sat", options=pb.AnalyzeOptions(fill_mask=pb.FillMaskOptions(top_k=2))),
    ]
    answers = {answer.id: answer.analysis for answer in stub.StreamAnalyze(iter(requests), timeout=60)}
    assert answers["0"].HasField("embedding")
    assert answers["1"].classification.labels
    assert len(answers["2"].fill_mask.masks[0].predictions) == 2


def test_empty_stream_ends_well(stub: pb_grpc.BertServiceStub) -> None:
    assert list(stub.StreamAnalyze(iter([]), timeout=60)) == []


def test_answers_come_while_the_caller_still_sends(stub: pb_grpc.BertServiceStub) -> None:
    """One text, its answer, the next text."""
    answered = threading.Semaphore(1)

    def requests() -> Iterator[pb.StreamAnalyzeRequest]:
        for number in range(20):
            assert answered.acquire(timeout=60)
            yield ask(number)

    for number, answer in enumerate(stub.StreamAnalyze(requests(), timeout=60)):
        assert answer.id == str(number)
        answered.release()


def test_message_that_is_none_ends_the_stream(server: RunningServer) -> None:
    """There is no id to answer under."""
    with grpc.insecure_channel(server.target) as channel:
        call = channel.stream_stream("/bertapi.v1.BertService/StreamAnalyze")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter([b"\xff\xff"]), timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_streams_are_counted() -> None:
    """As grpc_type bidi_stream, by the status of the whole stream."""
    with running_server(PRETRAINING) as server, grpc.insecure_channel(server.target) as channel:
        assert server.sample(f'grpc_server_handled_total{{grpc_code="OK",{LABELS}}}') == 0
        list(pb_grpc.BertServiceStub(channel).StreamAnalyze(iter([ask(0), ask(1, "")]), timeout=60))
        assert server.sample(f"grpc_server_started_total{{{LABELS}}}") == 1
        assert server.sample(f'grpc_server_handled_total{{grpc_code="OK",{LABELS}}}') == 1
        assert server.sample('bertserve_rejected_total{model="pretraining",reason="invalid"}') == 1


def test_slow_reader_stops_the_reading_of_his_stream() -> None:
    """An endless stream whose answers nobody reads comes to a halt, and others are served meanwhile."""
    with running_server(PRETRAINING) as server, grpc.insecure_channel(server.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        options = pb.AnalyzeOptions(embed=pb.EmbedOptions(pooling=pb.POOLING_NONE, include_tokens=True))
        call = stub.StreamAnalyze(ask(number, "cat " * 100, options=options) for number in itertools.count())
        next(call)
        before = -1.0
        while (tokens := server.sample('bertserve_tokens_total{model="pretraining"}')) != before:
            before = tokens
            time.sleep(0.5)
        assert before < 1_000_000
        assert stub.Embed(pb.EmbedRequest(inputs=[pb.TextInput(text="cat")]), timeout=60).embeddings
        call.cancel()


def test_slow_reader_holds_few_large_answers() -> None:
    """What is answered and not read is bounded in bytes too, where a window of tokens would let thousands run."""
    layers = pb.AnalyzeOptions(embed=pb.EmbedOptions(pooling=pb.POOLING_NONE, layers=[0, 1, 2]))
    arguments = ("--batch-tokens", "65536")
    with running_server(PRETRAINING, *arguments) as server, grpc.insecure_channel(server.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        call = stub.StreamAnalyze(ask(number, "cat " * 120, options=layers) for number in itertools.count())
        size = next(call).ByteSize()
        before = -1.0
        while (tokens := server.sample('bertserve_tokens_total{model="pretraining"}')) != before:
            before = tokens
            time.sleep(0.5)
        unread = size * tokens / 122
        call.cancel()
    assert size > 20_000
    assert unread < 24 * 2**20


def test_drain_answers_what_was_accepted_and_reads_no_more() -> None:
    """Then the stream ends as UNAVAILABLE, and the process in good time."""
    with running_server(PRETRAINING) as server, grpc.insecure_channel(server.target) as channel:
        call = pb_grpc.BertServiceStub(channel).StreamAnalyze((ask(number) for number in itertools.count()), timeout=60)
        answers = [next(call) for _ in range(50)]
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            answers.extend(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "draining" in caught.value.details()
        # Every input up to some point: nothing accepted was left out.
        assert sorted(int(answer.id) for answer in answers) == list(range(len(answers)))
        assert server.process.wait(timeout=60) == 0


def test_idle_stream_does_not_hold_up_the_drain() -> None:
    """A caller who keeps a stream open without a word is told too."""
    over = threading.Event()

    def requests() -> Iterator[pb.StreamAnalyzeRequest]:
        yield ask(0)
        over.wait(60)

    with running_server(PRETRAINING) as server, grpc.insecure_channel(server.target) as channel:
        call = pb_grpc.BertServiceStub(channel).StreamAnalyze(requests(), timeout=60)
        next(call)
        assert server.stop() == 0
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        over.set()


def test_caller_who_leaves_takes_his_texts_out_of_the_queue() -> None:
    """What waits of the stream is dropped; queue and open calls go back to nothing."""
    with running_server(PRETRAINING) as server, grpc.insecure_channel(server.target) as channel:
        call = pb_grpc.BertServiceStub(channel).StreamAnalyze(
            (ask(number, "cat " * 100) for number in itertools.count()), timeout=60
        )
        next(call)
        call.cancel()
        while server.sample(f'grpc_server_handled_total{{grpc_code="Canceled",{LABELS}}}') == 0:
            time.sleep(0.05)
        for gauge in ("queue_tokens", "queue_items"):
            assert server.sample(f'bertserve_{gauge}{{model="pretraining"}}') == 0
        assert server.stop() == 0
        assert not [line for line in map(json.loads, server.log) if line["level"] == "error"]


@pytest.mark.slow
def test_hundred_thousand_texts_in_one_stream_take_no_more_memory() -> None:
    """From the first tenth to the last, resident memory stays within a few per cent."""
    with running_server(PRETRAINING) as server, grpc.insecure_channel(server.target) as channel:
        call = pb_grpc.BertServiceStub(channel).StreamAnalyze(ask(number) for number in range(100_000))
        memory = []
        for count, _ in enumerate(call, start=1):
            if count % 10_000 == 0:
                memory.append(server.sample("process_resident_memory_bytes"))
        assert count == 100_000
        assert max(memory) < 1.05 * memory[0]
