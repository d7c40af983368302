"""How requests are received, and what a message may become."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.doors.grpc.intake.decoding import FEW_FIELDS, decode, has_more_fields
from bertserve.errors import InvalidInput
from hypothesis import given
from hypothesis import strategies as st
from servers import PRETRAINING, RunningServer, running_server


@given(st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_fields_are_counted_as_they_stand_on_the_wire(inputs: int, layers: int, truncates: bool) -> None:
    """Those of submessages are not."""
    options = pb.EmbedOptions(layers=range(layers), include_tokens=True)
    request = pb.EmbedRequest(
        model="m", inputs=[pb.TextInput(text="a" * 300, targets=["b"])] * inputs, options=options,
        truncation=pb.TRUNCATION_END if truncates else pb.TRUNCATION_UNSPECIFIED,
    )  # fmt: skip
    encoded, fields = request.SerializeToString(), 2 + inputs + truncates
    assert has_more_fields(encoded, fields - 1)
    assert not has_more_fields(encoded, fields)


@given(st.binary(max_size=300))
def test_count_of_fields_ends_on_any_bytes(encoded: bytes) -> None:
    """Never above the number of bytes."""
    assert not has_more_fields(encoded, len(encoded))


def test_groups_hide_no_fields() -> None:
    """What stands between the marks of an old-style group is counted, since parsing would go through it."""
    assert has_more_fields(b"\x9b\x06" + b"\x12\x00" * 50 + b"\x9c\x06", 51)


def test_message_of_many_fields_is_not_parsed() -> None:
    """Empty inputs take two bytes each on the wire, and sixty as messages."""
    empty = pb.EmbedRequest(inputs=[pb.TextInput()]).SerializeToString()
    with pytest.raises(InvalidInput):
        decode(pb.EmbedRequest.FromString, empty * 10 * FEW_FIELDS, FEW_FIELDS)


@pytest.fixture(scope="module")
def narrow() -> Iterator[RunningServer]:
    """A server with little room for large requests, and for one stream."""
    with running_server(PRETRAINING, "--pending-bytes", "100000", "--max-open-streams", "1") as running:
        yield running


def test_what_is_refused_before_it_is_received_is_counted(narrow: RunningServer) -> None:
    """A large request without room, and a stream beyond the bound: in the calls' codes and among the refusals of a
    full queue, or no alert would know of them."""
    refused = 'bertserve_rejected_total{model="",reason="queue_full"}'
    with grpc.insecure_channel(narrow.target) as channel:
        assert narrow.sample(refused) == 0
        stub = pb_grpc.BertServiceStub(channel)
        stop = threading.Event()
        open_stream = stub.StreamAnalyze(_endless(stop), timeout=60)
        next(open_stream)
        with pytest.raises(grpc.RpcError, match="all 1 of the server's --max-open-streams") as caught:
            next(stub.StreamAnalyze(_endless(stop), timeout=60, metadata=[("x-request-id", "refused")]))
        assert dict(caught.value.trailing_metadata())["x-request-id"] == "refused"
        stop.set()
        refusals = _send_until_one_is_refused(stub)
        assert re.search(
            r"have \d+ bytes, this one \d+, all together may have 100000 \(the server's --pending-b", refusals[0]
        )
        assert narrow.sample(refused) == 1 + len(refusals)
        for method, kind, count in (("StreamAnalyze", "bidi_stream", 1), ("Embed", "unary", len(refusals))):
            labels = f'grpc_method="{method}",grpc_service="bertapi.v1.BertService",grpc_type="{kind}"'
            assert narrow.sample(f'grpc_server_handled_total{{grpc_code="ResourceExhausted",{labels}}}') == count


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_large_request_that_is_no_message_takes_no_room_for_ever(narrow: RunningServer, method: str) -> None:
    """Of health too, which anybody may ask: it is refused, and what comes after it finds the room that there was."""
    with grpc.insecure_channel(narrow.target) as channel:
        health = channel.unary_stream(f"/grpc.health.v1.Health/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            next(health(b"\xff" * 90_000, timeout=60))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        request = pb.EmbedRequest(inputs=[pb.TextInput(text="cat", targets=["a" * 90_000])])
        assert pb_grpc.BertServiceStub(channel).Embed(request, timeout=60).embeddings


def _send_until_one_is_refused(stub: pb_grpc.BertServiceStub) -> list[str]:
    """What large requests, sent at once, are told that find no room beside each other."""
    request = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat " * 5000)] * 2, truncation=pb.TRUNCATION_END)
    while True:
        calls = [stub.Embed.future(request, timeout=60) for _ in range(8)]
        refusals = [str(call.details()) for call in calls if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
        if refusals:
            return refusals


def _endless(stop: threading.Event) -> Iterator[pb.StreamAnalyzeRequest]:
    """One request, and no end until then."""
    yield pb.StreamAnalyzeRequest(id="1", input=pb.TextInput(text="cat"))
    stop.wait(60)


def test_request_with_too_many_tokens_is_refused_before_all_are_made() -> None:
    """The refusal names what was counted until then: some hundreds of the 6,000 that there are."""
    texts = [pb.TextInput(text="cat " * 15_000)] * 60
    with running_server(PRETRAINING, "--queue-tokens", "500") as server:
        with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as caught:
            pb_grpc.BertServiceStub(channel).Embed(
                pb.EmbedRequest(inputs=texts, truncation=pb.TRUNCATION_END), timeout=60
            )
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert 500 < int(caught.value.details().split()[1]) < 2000
