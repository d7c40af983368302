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
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
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
ALL = pb.AnalyzeOptions(embed=pb.EmbedOptions())
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
    faults = [
        line for line in tuple(server.log) if json.loads(line)["message"] in {"a call failed", "a library reports"}
    ]
    assert not faults


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


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_messages(unharmed: RunningServer) -> None:
    """The same, for longer."""
    send_messages(unharmed, LONG)


@pytest.mark.long
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


@pytest.mark.parametrize("name", [b"/\xff/x", b"/bertapi.v1.BertService/\xff", b"", b"Embed"])
def test_method_of_any_name_leaves_others_alone(unharmed: RunningServer, name: bytes) -> None:
    """One that is no UTF-8 too, which gRPC's own loop would end at."""
    headers = call_headers("Embed").replace(
        fuzzing.literal(b":path", b"/bertapi.v1.BertService/Embed"), fuzzing.literal(b":path", name)
    )
    send(unharmed, PREFACE + frame(4, 0, 0, b"") + frame(1, 5, 1, headers), linger_seconds=0.2)


def test_headers_without_end_are_cut(unharmed: RunningServer) -> None:
    """CONTINUATION frames for as long as the server takes them (CVE-2024-27316)."""
    opening = PREFACE + frame(4, 0, 0, b"") + frame(1, 0, 1, call_headers("Embed"))
    more = frame(9, 0, 1, fuzzing.literal(b"x-more", b"y" * 120)) * 20_000
    send(unharmed, opening + more, linger_seconds=0.5)


def test_headers_that_are_no_text_are_no_error_of_the_server(unharmed: RunningServer) -> None:
    """Calls with bytes that are no UTF-8 as value or name, which gRPC reads as Latin-1 and logs."""
    for header in [(b"x-more", b"\xff"), (b"user-agent", b"\xff"), (b"x-\xff", b"")]:
        headers = frame(1, 4, 1, call_headers("ListModels", header))
        send(unharmed, PREFACE + frame(4, 0, 0, b"") + headers + frame(0, 1, 1, bytes(5)), linger_seconds=0.5)


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
        with grpc.insecure_channel(server.target) as channel:
            # The server may hear of their end a moment later, and until then their places are taken.
            grpc.channel_ready_future(channel).result(timeout=60)
        examine(server)


def test_requests_that_stall_do_not_keep_others_out(unharmed: RunningServer) -> None:
    """Of large ones that never come whole only so many are waited for; the rest are refused, small ones served."""
    never = threading.Event()

    def parts() -> Iterator[bytes]:
        never.wait(60)
        yield b""

    with contextlib.ExitStack() as stack:
        calls = []
        for _ in range(60):
            channel = stack.enter_context(
                grpc.insecure_channel(unharmed.target, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            calls.append(channel.stream_unary("/bertapi.v1.BertService/Embed").future(parts(), timeout=60))
        refused = calls_that_end(calls, len(calls) - SLOW_SLOTS)
        assert {call.code().name for call in refused} == {"RESOURCE_EXHAUSTED"}
        assert len(calls) - len(refused) == SLOW_SLOTS
        examine(unharmed)
        for call in calls:
            call.cancel()
        never.set()


def calls_that_end(calls: list[grpc.Future], count: int) -> list[grpc.Future]:
    """Those that have ended a moment after so many have."""
    while sum(call.done() for call in calls) < count:
        threading.Event().wait(0.05)
    threading.Event().wait(0.5)
    return [call for call in calls if call.done()]


def test_requests_that_stall_on_one_connection_keep_no_other_out(unharmed: RunningServer) -> None:
    """A thousand of which nothing comes take half a minute to be refused; a newcomer's turn is the next but one."""
    host, _, port = unharmed.target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        stalled = b"".join(frame(1, 4, number, call_headers("Embed")) for number in range(1, 2000, 2))
        connection.sendall(PREFACE + frame(4, 0, 0, b"") + stalled)
        wait_for_refusal(connection)
        with grpc.insecure_channel(unharmed.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            assert pb_grpc.BertServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=10).models


def wait_for_refusal(connection: socket.socket) -> None:
    """Until every place is taken, and others wait."""
    received = b""
    while b"others do already" not in received:
        received = received[-100:] + connection.recv(65536)


# The default --pending-bytes by the default --max-request-bytes.
SLOW_SLOTS = 32

LARGEST = {
    "texts too long": pb.EmbedRequest(inputs=[pb.TextInput(text="the cat " * 2040)] * 1023).SerializeToString(),
    "empty inputs": pb.EmbedRequest(inputs=[pb.TextInput()]).SerializeToString() * (8 * MIB - 10),
}


@pytest.mark.slow
@pytest.mark.parametrize("largest", LARGEST.values(), ids=LARGEST.keys())
def test_largest_requests_of_many_connections_take_bounded_memory(largest: bytes) -> None:
    """They are received in slots and refused, and the server lets go of what it held. Sixty of 16 MiB are a gigabyte,
    several times over."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with running_server(PRETRAINING, "--max-request-bytes", str(16 * MIB)) as server, contextlib.ExitStack() as stack:
        before = examine(server)
        for _ in range(2):
            channels = [stack.enter_context(grpc.insecure_channel(server.target, options)) for _ in range(30)]
            calls = [
                channel.unary_unary("/bertapi.v1.BertService/Embed").future(largest, timeout=120)
                for channel in channels
            ]
            assert {call.code().name for call in calls} <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
            stack.pop_all().close()
        after = examine(server)
        assert after.vector == before.vector
        assert peak_bytes(server) - before.resident_bytes < 1024 * MIB


def peak_bytes(server: RunningServer) -> int:
    """The most memory that the process ever had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def test_streams_beyond_the_bound_are_refused() -> None:
    """Those within it go on, and one that ended makes room."""
    over = threading.Event()

    def requests() -> Iterator[pb.StreamAnalyzeRequest]:
        yield pb.StreamAnalyzeRequest(input=pb.TextInput(text="cat"), options=ALL)
        over.wait(60)

    with (
        running_server(PRETRAINING, "--max-open-streams", "2") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = pb_grpc.BertServiceStub(channel)
        within = [stub.StreamAnalyze(requests(), timeout=60) for _ in range(2)]
        assert all(next(call).HasField("analysis") for call in within)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.StreamAnalyze(requests(), timeout=60))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        over.set()
        assert [list(call) for call in within] == [[], []]
        assert next(stub.StreamAnalyze(requests(), timeout=60)).HasField("analysis")
