"""Lists that are too large for one request: how they are cut, and that one call still has one result."""

import io
from itertools import pairwise

import grpc
import numpy as np
import pytest
from bertapi import client as api
from bertapi import portions, transport
from bertapi.command import main
from bertapi.v1 import bert_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

# Quickly tokenized: no word piece is as long as that.
LONG_WORD = "x" * 60_000
TEXTS = [" cat" * number + f" {LONG_WORD}" for number in range(1, 101)]
HALF = "y" * (portions.LARGEST_REQUEST_BYTES * 3 // 5)


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 100), st.integers(1, 10))
def test_ranges_cover_all_in_order(sizes, largest, most):
    """No range is larger than allowed unless it has one item, and none could have taken the next range's first."""
    bounds = list(portions.cut(sizes, largest, most))
    assert [index for first, end in bounds for index in range(first, end)] == list(range(len(sizes)))
    for first, end in bounds:
        assert end - first == 1 or sum(sizes[first:end]) <= largest
        assert end - first <= most
    for (first, end), _ in pairwise(bounds):
        assert sum(sizes[first : end + 1]) > largest or end - first == most


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(60, 200))
def test_portions_have_all_of_the_request_but_other_inputs(texts, largest):
    """They are within the limit, and their inputs are those of the request, in its order."""
    request = pb.EmbedRequest(model="m", inputs=[pb.TextInput(text=text, text_pair="b") for text in texts])
    request.options.normalize = True
    parts = list(portions.split(request, largest))
    assert [text for part in parts for text in part.request.inputs] == list(request.inputs)
    assert [part.first for part in parts] == [sum(len(p.request.inputs) for p in parts[:i]) for i in range(len(parts))]
    for part in parts:
        assert (part.request.model, part.request.options.normalize) == ("m", True)
        assert part.request.ByteSize() <= largest or len(part.request.inputs) == 1


def test_a_small_request_is_sent_as_it_is():
    """Without a copy."""
    request = pb.EmbedRequest(inputs=[pb.TextInput(text="a")])
    assert [(part.request, part.first) for part in portions.split(request)] == [(request, 0)]
    assert next(portions.split(request)).request is request


def test_candidates_are_cut_too():
    """Each portion has the first sentence."""
    request = pb.ScoreNextSentenceRequest(first="a" * 50, candidates=["b" * 40] * 5)
    parts = [part.request for part in portions.split(request, 160)]
    assert [(part.first, len(part.candidates)) for part in parts] == [("a" * 50, 2), ("a" * 50, 2), ("a" * 50, 1)]


def test_times_of_portions_add_up():
    """The durations of all their stages."""
    answers = [
        pb.EmbedResponse(
            embeddings=[pb.Embedding(token_count=count)],
            info=pb.ResponseInfo(
                model="m", bundle_id="b", timings=pb.Timings(queue=Duration(seconds=seconds, nanos=600_000_000))
            ),
        )
        for count, seconds in ((1, 2), (2, 0))
    ]
    whole = portions.join(answers)
    assert [found.token_count for found in whole.embeddings] == [1, 2]
    assert (whole.info.model, whole.info.timings.queue.ToMilliseconds()) == ("m", 3200)


async def test_both_clients_answer_a_list_of_several_requests(server):
    """Six megabytes of texts, in their order, and as in smaller lists."""
    with api.BertClient(server.target) as client:
        parts = [client.embed(TEXTS[first : first + 50], truncation="end").matrix for first in (0, 50)]
        whole = client.embed(TEXTS, truncation="end")
    async with api.AsyncBertClient(server.target) as client:
        again = await client.embed(TEXTS, truncation="end")
    np.testing.assert_array_equal(whole.matrix, np.concatenate(parts))
    np.testing.assert_array_equal(again.matrix, whole.matrix)
    assert whole.info.bundle_id == again.info.bundle_id != ""


def test_bertcall_answers_a_list_of_several_requests(server, monkeypatch, capsys):
    """Every line of standard input has its result."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
    assert main(["embed", "-", "--truncation", "end", "--json", "--target", server.target]) == 0
    assert capsys.readouterr().out.count('"tokenCount"') == len(TEXTS)


async def test_both_clients_answer_more_inputs_than_a_request_has(server):
    """Short texts, of which the server takes so many in a request."""
    texts = ["a cat"] * (portions.MAX_INPUTS + 1)
    with api.BertClient(server.target) as client:
        assert len(client.embed(texts)) == len(texts)
    async with api.AsyncBertClient(server.target) as client:
        assert len(await client.embed(texts)) == len(texts)


def test_an_input_larger_than_a_message_of_a_stream_is_named_so(server):
    """A stream does not help it, and the error does not say so."""
    texts = ["z" * (portions.LARGEST_REQUEST_BYTES + 1)]
    with api.BertClient(server.target) as client, pytest.raises(api.TooLargeError) as caught:
        list(client.stream_analyze(texts, embed=True))
    assert caught.value.message.startswith("an input is too large by itself")
    assert "stream" not in caught.value.message


async def test_an_input_larger_than_a_request_is_named_with_the_flag(server):
    """No splitting helps it; the error says what does."""
    texts = ["a cat", "z" * (portions.LARGEST_REQUEST_BYTES + 1)]
    remedy = r"inputs\[1\] is too large by itself: .* \d+ bytes, the server takes 4194304; .*--max-request-bytes"
    with api.BertClient(server.target) as client, pytest.raises(api.TooLargeError, match=remedy):
        client.embed(texts)
    async with api.AsyncBertClient(server.target) as client:
        with pytest.raises(api.TooLargeError, match=remedy):
            await client.embed(texts)


async def test_a_fault_in_a_later_request_has_its_index_in_the_list(server):
    """Both clients have it in the message and in the field."""
    texts = [*TEXTS, ""]
    with api.BertClient(server.target) as client, pytest.raises(api.InvalidInputError) as caught:
        client.embed(texts, truncation="end")
    async with api.AsyncBertClient(server.target) as client:
        with pytest.raises(api.InvalidInputError) as caught_too:
            await client.embed(texts, truncation="end")
    for error in (caught.value, caught_too.value):
        assert error.message.startswith("inputs[100].text")
        assert [violation.field for violation in error.violations] == ["inputs[100].text"]


def test_the_timeout_is_of_all_requests_together(scripted_server, monkeypatch):
    """What the first took is not there for the second. Read before gRPC rounds it, which takes whole seconds."""
    timeouts, grpc_timeout = [], transport.grpc_timeout
    monkeypatch.setattr(transport, "grpc_timeout", lambda seconds: timeouts.append(seconds) or grpc_timeout(seconds))
    answer = pb.EmbedResponse(info=pb.ResponseInfo(bundle_id="b"))
    scripted_server.answers += [answer, answer]
    scripted_server.delay_seconds = 0.5
    with api.BertClient(scripted_server.target) as client:
        client.embed([HALF, HALF], timeout_seconds=1000)
    first, second = timeouts
    assert second <= first - scripted_server.delay_seconds


def test_a_call_whose_time_is_over_sends_nothing_more(scripted_server):
    """It fails as one request would."""
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.DeadlineError):
        client.embed([HALF, HALF], timeout_seconds=0)
    assert scripted_server.arrivals == []


def test_results_of_two_bundles_are_not_mixed(scripted_server):
    """A model that is replaced between two requests of a call fails the call."""
    scripted_server.answers += [pb.EmbedResponse(info=pb.ResponseInfo(bundle_id=name)) for name in ("old", "new")]
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.BertError, match="call again") as caught:
        client.embed([HALF, HALF])
    assert caught.value.code is grpc.StatusCode.ABORTED


def test_a_failure_of_a_later_request_is_that_of_the_call(scripted_server):
    """With the details of its status."""
    violation = error_details_pb2.BadRequest.FieldViolation(field="inputs[0].text", description="no")
    bad = error_details_pb2.BadRequest(field_violations=[violation])
    scripted_server.answers += [
        pb.EmbedResponse(), scripted_server.failure(grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].text: no", bad),
    ]  # fmt: skip
    with api.BertClient(scripted_server.target) as client, pytest.raises(api.InvalidInputError) as caught:
        client.embed([HALF, HALF])
    assert (caught.value.message, caught.value.violations[0].field) == ("inputs[1].text: no", "inputs[1].text")
