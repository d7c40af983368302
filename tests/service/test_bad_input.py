"""Bad input: for each kind the status and the path of the field at fault, over real gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from servers import PRETRAINING, RunningServer, running_server

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MISSING = grpc.StatusCode.FAILED_PRECONDITION
LONG = "the cat sat on the mat " * 100


def text(text: str = "the [MASK] sat", pair: str | None = None, **fields: Any) -> pb.TextInput:
    return pb.TextInput(text=text, text_pair=pair, **fields)


def embed(*inputs: pb.TextInput, truncation: int = 0, model: str = "", **options: Any) -> tuple[str, Any]:
    options_message = pb.EmbedOptions(**options)
    return "Embed", pb.EmbedRequest(model=model, inputs=inputs, truncation=truncation, options=options_message)


def fill(*inputs: pb.TextInput, truncation: int = 0, model: str = "", **options: Any) -> tuple[str, Any]:
    options_message = pb.FillMaskOptions(**options)
    return "FillMask", pb.FillMaskRequest(model=model, inputs=inputs, truncation=truncation, options=options_message)


def nsp(first: str = "the cat", *candidates: str, truncation: int = 0, model: str = "") -> tuple[str, Any]:
    request = pb.ScoreNextSentenceRequest(first=first, candidates=candidates, truncation=truncation, model=model)
    return "ScoreNextSentence", request


def analyze(*inputs: pb.TextInput, **options: Any) -> tuple[str, Any]:
    return "Analyze", pb.AnalyzeRequest(inputs=inputs, options=pb.AnalyzeOptions(**options))


def classify(*inputs: pb.TextInput, model: str = "classifier") -> tuple[str, Any]:
    return "Classify", pb.ClassifyRequest(inputs=inputs, model=model)


def tag(*inputs: pb.TextInput, truncation: int = 0, model: str = "tagger", **options: Any) -> tuple[str, Any]:
    options_message = pb.TagOptions(**options)
    return "TagTokens", pb.TagTokensRequest(model=model, inputs=inputs, truncation=truncation, options=options_message)


def tokenize(*inputs: pb.TextInput) -> tuple[str, Any]:
    return "Tokenize", pb.TokenizeRequest(inputs=inputs)


# name → (method and request, status, field)
CASES: dict[str, tuple[tuple[str, Any], grpc.StatusCode, str]] = {
    "no inputs to embed": (embed(), INVALID, "inputs"),
    "no inputs to fill": (fill(), INVALID, "inputs"),
    "no inputs to classify": (classify(), INVALID, "inputs"),
    "no inputs to tag": (tag(), INVALID, "inputs"),
    "empty text to tag": (tag(text("cat"), text("")), INVALID, "inputs[1].text"),
    "unknown aggregation": (tag(text(), aggregation=99), INVALID, "options.aggregation"),
    "unknown aggregation to analyze": (
        analyze(text(), tag_tokens=pb.TagOptions(aggregation=99)),
        INVALID,
        "options.tag_tokens.aggregation",
    ),
    "too long a text to tag": (tag(text(LONG)), INVALID, "inputs[0].text"),
    "no inputs to analyze": (analyze(embed=pb.EmbedOptions()), INVALID, "inputs"),
    "no inputs to tokenize": (tokenize(), INVALID, "inputs"),
    "no candidates": (nsp("the cat"), INVALID, "candidates"),
    "empty text": (embed(text("cat"), text("")), INVALID, "inputs[1].text"),
    "white space only": (embed(text(" \t\r\n\u00a0")), INVALID, "inputs[0].text"),
    "control characters only": (embed(text("\x00\x01\x7f")), INVALID, "inputs[0].text"),
    "empty text beside a pair": (embed(text("", "cat")), INVALID, "inputs[0].text"),
    "empty text to tokenize": (tokenize(text("")), INVALID, "inputs[0].text"),
    "empty first sentence": (nsp("", "cat"), INVALID, "first"),
    "no mask": (fill(text(), text("the cat")), INVALID, "inputs[1].text"),
    "no mask to analyze": (analyze(text("cat"), fill_mask=pb.FillMaskOptions()), INVALID, "inputs[0].text"),
    "lower-case mask": (fill(text("the [mask] sat")), INVALID, "inputs[0].text"),
    "too long": (embed(text("cat"), text(LONG)), INVALID, "inputs[1].text"),
    "too long under ERROR": (embed(text(LONG), truncation=pb.TRUNCATION_ERROR), INVALID, "inputs[0].text"),
    "too long candidate": (nsp("the cat", "sat", LONG), INVALID, "candidates[1]"),
    "too long first sentence": (nsp(LONG, "sat"), INVALID, "first"),
    "too long second text of a pair": (embed(text("cat", LONG)), INVALID, "inputs[0].text_pair"),
    "mask lost at the end": (fill(text(LONG + "[MASK]"), truncation=pb.TRUNCATION_END), INVALID, "inputs[0].text"),
    "mask lost at the start": (
        fill(text("[MASK] " + LONG), truncation=pb.TRUNCATION_START),
        INVALID,
        "inputs[0].text",
    ),
    "mask of a pair lost": (
        fill(text("cat", LONG + "[MASK]"), truncation=pb.TRUNCATION_END),
        INVALID,
        "inputs[0].text_pair",
    ),
    "100,000 characters": (embed(text("a" * 100_000)), INVALID, "inputs[0].text"),
    "100,000 characters in a pair": (embed(text("cat", "a" * 100_000)), INVALID, "inputs[0].text_pair"),
    "10,000 inputs": (embed(*[text("cat")] * 10_000), INVALID, "inputs"),
    "10,000 candidates": (nsp("the cat", *["sat"] * 10_000), INVALID, "candidates"),
    "top_k out of range": (fill(text(), top_k=1_000_000), INVALID, "options.top_k"),
    "top_k out of range to analyze": (
        analyze(text(), fill_mask=pb.FillMaskOptions(top_k=1_000_000)),
        INVALID,
        "options.fill_mask.top_k",
    ),
    "unknown target": (fill(text(), targets=["cat", "catmat dog"]), INVALID, "options.targets[1]"),
    "unknown target of an input": (fill(text(targets=["東京"])), INVALID, "inputs[0].targets[0]"),
    "layer too high": (embed(text(), layers=[3]), INVALID, "options.layers[0]"),
    "layer too low": (embed(text(), layers=[0, -4]), INVALID, "options.layers[1]"),
    "repeated layer": (embed(text(), layers=[2, -1]), INVALID, "options.layers"),
    "more layers than there are": (embed(text(), layers=[0] * 100), INVALID, "options.layers"),
    "100,000 targets": (fill(text(), targets=["cat"] * 100_000), INVALID, "options.targets"),
    "100,000 targets of an input": (fill(text(targets=["cat"] * 100_000)), INVALID, "inputs[0].targets"),
    "a million empty inputs": (embed(*[text("")] * 1_000_000), INVALID, "inputs"),
    "layers beside the pooler": (embed(text(), layers=[1], pooling=pb.POOLING_POOLER), INVALID, "options.layers"),
    "layer to analyze": (
        analyze(text(), embed=pb.EmbedOptions(layers=[9])),
        INVALID,
        "options.embed.layers[0]",
    ),
    "unknown pooling": (embed(text(), pooling=99), INVALID, "options.pooling"),
    "unknown layer merge": (embed(text(), layer_merge=99), INVALID, "options.layer_merge"),
    "unknown vector type": (embed(text(), vector_type=99), INVALID, "options.vector_type"),
    "unknown truncation": (embed(text(), truncation=99), INVALID, "truncation"),
    "nothing asked": (analyze(text()), INVALID, "options"),
    "next sentence without a pair": (
        analyze(text("a", "b"), text("a"), next_sentence=True),
        INVALID,
        "inputs[1].text_pair",
    ),
    "no masked-LM head": (fill(text(), model="classifier"), MISSING, ""),
    "no next-sentence head": (nsp("a", "b", model="classifier"), MISSING, ""),
    "no classifier head": (classify(text(), model="pretraining"), MISSING, ""),
    "no classifier head to analyze": (analyze(text(), classify=True), MISSING, ""),
    "no labels of tokens": (tag(text(), model="classifier"), MISSING, ""),
    "no labels of tokens to analyze": (analyze(text(), tag_tokens=pb.TagOptions()), MISSING, ""),
    "no pooler": (embed(text(), model="plain", pooling=pb.POOLING_POOLER), MISSING, ""),
    "unknown model": (embed(text(), model="nobody"), grpc.StatusCode.NOT_FOUND, ""),
}


def call(stub: pb_grpc.BertServiceStub, method: str, request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request, timeout=30)
    return caught.value


def field_at_fault(error: grpc.RpcError) -> str:
    """The path in google.rpc.BadRequest, empty where there is none."""
    status = rpc_status.from_call(error)
    bad_request = error_details_pb2.BadRequest()
    if status is None or not status.details[0].Unpack(bad_request):
        return ""
    (violation,) = bad_request.field_violations
    return violation.field


@pytest.mark.parametrize(("call_made", "status", "field"), CASES.values(), ids=CASES.keys())
def test_bad_input(
    stub: pb_grpc.BertServiceStub, call_made: tuple[str, Any], status: grpc.StatusCode, field: str
) -> None:
    """Each kind of bad input gets its status and names the field as the caller knows it."""
    error = call(stub, *call_made)
    assert (error.code(), field_at_fault(error)) == (status, field)


def test_answer_over_the_limit_is_refused_before_it_runs(server: RunningServer, stub: pb_grpc.BertServiceStub) -> None:
    """Hundreds of predictions at every one of 12,000 masks would exceed 64 MiB; no token runs for them."""
    before = server.sample('bertserve_tokens_total{model="pretraining"}')
    inputs = [text(" ".join(["[MASK]"] * 120))] * 100
    _, request = fill(*inputs, top_k=500)
    error = call(stub, "FillMask", request)
    assert (error.code(), field_at_fault(error)) == (INVALID, "inputs")
    assert error.details().endswith("; ask for fewer inputs, a smaller top_k")
    assert server.sample('bertserve_tokens_total{model="pretraining"}') == before


def test_request_larger_than_the_queue_is_invalid() -> None:
    """No waiting would ever make room for it."""
    with running_server(PRETRAINING, "--queue-tokens", "50") as small, grpc.insecure_channel(small.target) as channel:
        _, request = embed(*[text("cat")] * 30)
        error = call(pb_grpc.BertServiceStub(channel), "Embed", request)
        assert (error.code(), field_at_fault(error)) == (INVALID, "inputs")
        assert "90 tokens together or more, the server takes 50 in one request (its --queue-tokens)" in error.details()


# name → (method and request, what its refusal says of it)
BEYOND = {
    "inputs": (embed(*[text("cat")] * 4), "4 of them, the server takes 3 in a request (its --max-inputs)"),
    "candidates": (nsp("cat", *["dog"] * 4), "4 of them, the server takes 3 in a request (its --max-inputs)"),
    "characters": (embed(text("c" * 1001)), "1001 characters, the server takes 1000 (its --max-characters)"),
    "characters of a pair": (embed(text("c", "d" * 1002)), "1002 characters, the server takes 1000 (its --max-c"),
    "characters to tokenize": (tokenize(text("c" * 1003)), "1003 characters, the server takes 1000 (its --max-c"),
    "predictions": (fill(text(), top_k=6), "6 of them, the server predicts 5 at a mask (its --max-top-k)"),
    "targets": (fill(text(), targets=["cat"] * 7), "7 of them, the server scores 5 at a mask (its --max-top-k)"),
    "own targets": (fill(text(targets=["cat"] * 8)), "8 of them, the server scores 5 at a mask (its --max-top-k)"),
    "tokens": (embed(text("cat " * 200)), "202 tokens, the model takes 128; shorten it or ask for truncation"),
    "bytes of an answer": (
        embed(text("cat " * 100), pooling=pb.POOLING_NONE),
        "bytes, the server sends 5000 (its --max-response-bytes); ask for fewer inputs, FLOAT16",
    ),
    "bytes of tokens": (
        tokenize(*[text("cat " * 100)] * 3), "bytes, the server sends 5000 (its --max-response-bytes); ask for fewer"
    ),
    "large requests together": (
        embed(pb.TextInput(text="cat", targets=["c" * 80_000])), "bytes, the server takes 70000 (its --pending-bytes)"
    ),
    "fields": (
        embed(*[pb.TextInput()] * 20_000, pb.TextInput(text="c" * 26_000)),
        "more than 16384 fields, the most that the server takes (twice its --max-inputs, or 16384)",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bounded() -> Iterator[pb_grpc.BertServiceStub]:
    """A server with a low bound of every kind."""
    flags = {
        "--max-inputs": 3, "--max-characters": 1000, "--max-top-k": 5, "--max-response-bytes": 5000,
        "--pending-bytes": 70_000,
    }  # fmt: skip
    words = [str(word) for flag in flags.items() for word in flag]
    with running_server(PRETRAINING, *words) as server, grpc.insecure_channel(server.target) as channel:
        yield pb_grpc.BertServiceStub(channel)


@pytest.mark.parametrize(("asked", "said"), BEYOND.values(), ids=BEYOND)
def test_a_request_above_a_bound_is_told_the_bound(
    bounded: pb_grpc.BertServiceStub, asked: tuple[str, Any], said: str
) -> None:
    """What was found, what is allowed, the flag that allows more, and no time to wait, since that would not help."""
    error = call(bounded, *asked)
    assert error.code() is INVALID
    assert said in str(error.details())
    assert "grpc-retry-pushback-ms" not in dict(error.trailing_metadata() or ())


def test_a_queue_shorter_than_the_longest_text_is_warned_of() -> None:
    """With both numbers, at start."""
    with running_server(PRETRAINING, "--queue-tokens", "50") as small:
        small.stop()
    (line,) = [json.loads(line) for line in small.log if "longest texts" in line]
    assert (line["level"], line["max_tokens"], line["queue_tokens"]) == ("warning", 128, 50)


@pytest.mark.parametrize(
    "payload",
    [b"\x12\x04\x0a\x02\xff\xfe", b"\xff\xff\xff\xff", b"\x12\xff"],
    ids=["text that is not UTF-8", "no protobuf", "cut short"],
)
def test_message_that_does_not_decode(server: RunningServer, payload: bytes) -> None:
    """Bytes that are no request get INVALID_ARGUMENT with a fixed text that repeats nothing of them."""
    with grpc.insecure_channel(server.target) as channel:
        send: Callable[..., Any] = channel.unary_unary("/bertapi.v1.BertService/Embed")
        with pytest.raises(grpc.RpcError) as caught:
            send(payload, timeout=30)
    assert caught.value.code() is INVALID
    assert caught.value.details() == "the request is not a valid message of this method"


def test_refusals_are_counted(server: RunningServer, stub: pb_grpc.BertServiceStub) -> None:
    """Invalid input shows in bertserve_rejected_total and in the RPC's own code."""
    rejected = 'bertserve_rejected_total{model="pretraining",reason="invalid"}'
    handled = (
        'grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Embed",'
        'grpc_service="bertapi.v1.BertService",grpc_type="unary"}'
    )
    before = server.sample(rejected), server.sample(handled)
    call(stub, *embed(text("")))
    server.wait_for(handled, before[1] + 1)
    assert (server.sample(rejected), server.sample(handled)) == (before[0] + 1, before[1] + 1)


def test_no_text_of_callers_reaches_the_log(server: RunningServer, stub: pb_grpc.BertServiceStub) -> None:
    """Neither accepted nor refused texts are logged."""
    stub.Embed(pb.EmbedRequest(inputs=[text("swordfish")]), timeout=30)
    call(stub, *fill(text("swordfish without a gap")))
    assert "swordfish" not in "".join(server.log)


REFUSED_EMBEDS = (
    'grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Embed",'
    'grpc_service="bertapi.v1.BertService",grpc_type="unary"}'
)


def test_refused_call_can_be_tried_again(server: RunningServer) -> None:
    """A refusal comes as trailers alone: no client tries a call again whose headers have come."""
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["INVALID_ARGUMENT"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    before = server.sample(REFUSED_EMBEDS)
    with (
        grpc.insecure_channel(server.target, options=[("grpc.service_config", config)]) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        pb_grpc.BertServiceStub(channel).Embed(pb.EmbedRequest(), timeout=30)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    server.wait_for(REFUSED_EMBEDS, before + 3)
    assert server.sample(REFUSED_EMBEDS) - before == 3
