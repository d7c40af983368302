"""Whatever bytes come, the server answers or closes, and is afterwards what it was."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import fuzzing
import grpc
import pytest
from bertapi.oip import inference_pb2
from bertapi.v1 import bert_service_pb2 as pb
from fuzzing import CONNECTIONS, MIB, PREFACE, Vitals, call_headers, examine, frame, message_bytes, send
from google.protobuf import message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import CLASSIFIER, PRETRAINING, RunningServer, running_server

QUICK, LONG = 60, 3000
ANY_TIME = settings(deadline=None, suppress_health_check=list(HealthCheck))

# Path → request of every method of both services.
REQUESTS = {
    f"/{service.full_name}/{method.name}": message_factory.GetMessageClass(method.input_type)
    for file in (pb.DESCRIPTOR, inference_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
PATHS = list(REQUESTS)
# What a caller may be told about a request that is his own fault, or that came at a bad time.
HONEST = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}


@pytest.fixture(scope="module")
def target() -> Iterator[RunningServer]:
    with running_server(PRETRAINING, CLASSIFIER, "--open-inference", "--log-level", "debug") as running:
        yield running


@pytest.fixture
def unharmed(target: RunningServer) -> Iterator[RunningServer]:
    """Alive, answering the same, with no call open and nothing held, before and after."""
    before = examine(target)
    yield target
    for _ in range(200):
        after = examine(target)
        if fuzzing.open_calls(target) == 0 and after.descriptors <= before.descriptors + 2:
            break
        threading.Event().wait(0.1)
    check_unharmed(target, before, after)


def check_unharmed(server: RunningServer, before: Vitals, after: Vitals) -> None:
    assert after.vector == before.vector
    assert fuzzing.open_calls(server) == 0
    assert after.descriptors <= before.descriptors + 2
    assert after.resident_bytes <= before.resident_bytes + 200 * MIB
    messages = {json.loads(line)["message"] for line in tuple(server.log)}
    assert not messages & {"a call failed", "a library reports"}


def send_messages(server: RunningServer, examples: int) -> None:
    with grpc.insecure_channel(server.target, options=[("grpc.max_receive_message_length", -1)]) as channel:

        @settings(ANY_TIME, max_examples=examples)
        @given(st.data(), st.sampled_from(PATHS))
        def run(data: st.DataObject, path: str) -> None:
            content = data.draw(message_bytes(REQUESTS[path]))
            call = channel.unary_unary(path).future(content, timeout=30)
            assert call.code().name in HONEST, (path, content, call.details())

        run()


def send_connections(server: RunningServer, examples: int) -> None:
    @settings(ANY_TIME, max_examples=examples)
    @given(CONNECTIONS)
    def run(content: bytes) -> None:
        send(server, content)

    run()


def test_any_message_is_answered_honestly(unharmed: RunningServer) -> None:
    """Valid, mutated and garbled ones of every method: never INTERNAL or UNKNOWN, never silence."""
    send_messages(unharmed, QUICK)


def test_any_bytes_on_a_connection_leave_others_alone(unharmed: RunningServer) -> None:
    """Half a preface, frames of all kinds with lengths that lie, HTTP/1, TLS."""
    send_connections(unharmed, QUICK)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_messages(unharmed: RunningServer) -> None:
    """The same, for longer."""
    send_messages(unharmed, LONG)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_connections(unharmed: RunningServer) -> None:
    """The same, for longer."""
    send_connections(unharmed, LONG)


def test_flood_of_reset_streams_costs_nothing_that_stays(unharmed: RunningServer) -> None:
    """Calls opened and reset at once, by the thousands (CVE-2023-44487)."""
    headers = call_headers("Embed")
    streams = itertools.count(1, 2)
    for _ in range(5):
        flood = b"".join(
            frame(1, 4, number, headers) + frame(3, 0, number, b"\0\0\0\x08")
            for number in itertools.islice(streams, 1000)
        )
        send(unharmed, PREFACE + frame(4, 0, 0, b"") + flood, linger_seconds=0.5)
        streams = itertools.count(1, 2)


def test_headers_without_end_are_cut(unharmed: RunningServer) -> None:
    """CONTINUATION frames for as long as the server takes them (CVE-2024-27316)."""
    opening = PREFACE + frame(4, 0, 0, b"") + frame(1, 0, 1, call_headers("Embed"))
    more = frame(9, 0, 1, fuzzing.literal(b"x-more", b"y" * 120)) * 20_000
    send(unharmed, opening + more, linger_seconds=0.5)


def test_large_metadata_is_refused(unharmed: RunningServer) -> None:
    """Before it takes a call's place."""
    with grpc.insecure_channel(unharmed.target) as channel:
        call = channel.unary_unary("/bertapi.v1.BertService/ListModels")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=30, metadata=[("x-large", "y" * MIB)])
        assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


def test_connections_beyond_the_bound_are_closed() -> None:
    """And those within it served."""
    with running_server(PRETRAINING, "--max-connections", "5") as server, contextlib.ExitStack() as stack:
        host, _, port = server.target.rpartition(":")
        for _ in range(50):
            stack.enter_context(contextlib.closing(socket.create_connection((host, int(port)), timeout=10)))
        process = f"/proc/{server.process.pid}/fd"
        threading.Event().wait(1)
        sockets = sum("socket:" in str(link.readlink()) for link in Path(process).iterdir())
        assert sockets < 30
        stack.close()
        examine(server)


def test_requests_that_stall_do_not_keep_others_out(unharmed: RunningServer) -> None:
    """Of large ones that never come whole only so many are waited for; the rest are refused, small ones served."""
    never = threading.Event()

    def parts() -> Iterator[bytes]:
        never.wait(60)
        yield b""

    with contextlib.ExitStack() as stack:
        calls = []
        for _ in range(30):
            channel = stack.enter_context(
                grpc.insecure_channel(unharmed.target, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            calls.append(channel.stream_unary("/bertapi.v1.BertService/Embed").future(parts(), timeout=60))
        threading.Event().wait(1.5)
        refused = [call for call in calls if call.done()]
        assert {call.code().name for call in refused} == {"RESOURCE_EXHAUSTED"}
        assert len(calls) - len(refused) == 8
        examine(unharmed)
        for call in calls:
            call.cancel()
        never.set()


@pytest.mark.slow
def test_largest_requests_of_many_connections_take_bounded_memory() -> None:
    """Some are answered, the rest refused; what was held is let go, so that later waves take no more than the first."""
    largest = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat " * 2040)] * 1023).SerializeToString()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with running_server(PRETRAINING) as server:
        before = examine(server)
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                channels = [stack.enter_context(grpc.insecure_channel(server.target, options)) for _ in range(40)]
                method = "/bertapi.v1.BertService/Embed"
                calls = [channel.unary_unary(method).future(largest, timeout=120) for channel in channels]
                assert {call.code().name for call in calls} <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
        after = examine(server)
        assert after.vector == before.vector
        # Kept until the garbage collector comes, 120 of them would be 5 GiB.
        assert after.resident_bytes - before.resident_bytes < 2048 * MIB
