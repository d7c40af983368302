"""A costly request costs its neighbours little: what is long is cut in portions, bounded, or done beside the loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.doors.grpc.intake.unread_responses import UnreadResponses
from bertserve.errors import Overloaded
from bertserve.tasks.analysis import cut_portions
from hypothesis import given
from hypothesis import strategies as st
from servers import PRETRAINING, running_server


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 100))
def test_portions_cover_all_in_order(sizes: list[int], portion: int) -> None:
    """Nothing lost, nothing twice, and none above the portion but a lone one."""
    portions = cut_portions(sizes, portion)
    assert [index for first, end in portions for index in range(first, end)] == list(range(len(sizes)))
    assert all(end - first == 1 or sum(sizes[first:end]) <= portion for first, end in portions)


def test_target_of_millions_of_characters_is_refused(stub: pb_grpc.BertServiceStub) -> None:
    """It cannot be one token, and is not tokenized to find that out."""
    options = pb.FillMaskOptions(targets=["a b " * 1_000_000])
    request = pb.FillMaskRequest(inputs=[pb.TextInput(text="[MASK]")], options=options)
    with pytest.raises(grpc.RpcError) as caught:
        stub.FillMask(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_caller_who_left_is_not_tokenized_for() -> None:
    """Twelve million characters, whose caller leaves after 0.2 s: the next long request is answered in its own time."""
    with (
        running_server(PRETRAINING, "--max-request-bytes", "16777216") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = pb_grpc.BertServiceStub(channel)
        leave_early(stub)
        long = pb.TokenizeRequest(inputs=[pb.TextInput(text="cat " * 1000)], truncation=pb.TRUNCATION_END)
        assert stub.Tokenize(long, timeout=10).results[0].truncated


def leave_early(stub: pb_grpc.BertServiceStub) -> None:
    huge = pb.TokenizeRequest(inputs=[pb.TextInput(text="cat " * 15_000)] * 200, truncation=pb.TRUNCATION_END)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Tokenize(huge, timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_tokens_over_the_answer_limit_are_refused() -> None:
    """Tokenize keeps the limit that every method has, and answers what is within it."""
    with (
        running_server(PRETRAINING, "--max-response-bytes", "4096") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub, text = pb_grpc.BertServiceStub(channel), pb.TextInput(text="cat " * 20)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Tokenize(pb.TokenizeRequest(inputs=[text] * 20), timeout=30)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(stub.Tokenize(pb.TokenizeRequest(inputs=[text]), timeout=30).results) == 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 4_000_000)), max_size=60))
def test_unread_answers_leave_room_for_others(answers: list[tuple[str, int]]) -> None:
    """Four connections leave at least a sixteenth of ten million bytes. Once all is read, which counts once, all of the
    room is free again."""
    unread = UnreadResponses(10_000_000)
    reads: list[Callable[[], None]] = []
    for caller, size in answers:
        with contextlib.suppress(Overloaded):
            reads.append(unread.put(caller, size))
        for newcomers in (1, 300_000):
            unread.put("newcomer", newcomers)()
    for read in (*reads, *reads):
        read()
    unread.put("newcomer", 5_000_000)()
    with pytest.raises(Overloaded):
        unread.put("newcomer", 5_000_001)


def test_answers_that_nobody_reads_do_not_pile_up() -> None:
    """Of one connection no more of them wait than leave room for as many of others. What comes then is refused, unless
    it is small; and they make room once their caller leaves."""
    options = pb.EmbedOptions(pooling=pb.POOLING_NONE, layers=[0, 1, 2])
    large = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat on the mat " * 9)] * 12, options=options)
    small = pb.EmbedRequest(inputs=[pb.TextInput(text="cat")])
    answered = 'grpc_method="Embed",grpc_service="bertapi.v1.BertService",grpc_type="unary"'
    # Or the client would take some megabytes before anybody reads them.
    own = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    with (
        running_server(PRETRAINING, "--max-response-bytes", "300000") as server,
        grpc.insecure_channel(server.target, own) as channel,
        grpc.insecure_channel(server.target, own) as other,
    ):
        embed = channel.unary_stream("/bertapi.v1.BertService/Embed")
        unread = [embed(large.SerializeToString(), timeout=60) for _ in range(2)]
        server.wait_for(f'grpc_server_handled_total{{grpc_code="OK",{answered}}}', 2)
        stub = pb_grpc.BertServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="wait for their callers") as caught:
            stub.Embed(large, timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.sample('bertserve_rejected_total{model="",reason="queue_full"}') == 1
        assert stub.Embed(small, timeout=60).embeddings
        assert pb_grpc.BertServiceStub(other).Embed(large, timeout=60).embeddings
        for call in unread:
            call.cancel()
        server.wait_for(f'grpc_server_handled_total{{grpc_code="OK",{answered}}}', 4)
        assert stub.Embed(large, timeout=60).embeddings
