"""What becomes of connections: the old are renewed, the mute are closed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.doors.grpc.port import _connection_options
from bertserve.settings import read_settings
from certificates import Authority
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servers import PLAIN, RunningServer, running_server

REQUEST = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat on the mat")] * 20)
OPTIONS = pb.AnalyzeOptions(embed=pb.EmbedOptions())

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)
PING, GOAWAY = 6, 7
PING_ANSWER = b"\x00\x00\x08\x06\x01" + bytes(4)
NO_ERROR = 0
CLIENT_HELLO_BEGUN = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
ESTABLISHED = "01"


@pytest.fixture(scope="module")
def aging_server() -> Iterator[RunningServer]:
    """A grace far shorter than the age: it is of the drain, and keeps no aged connection from finishing its calls."""
    with running_server(PLAIN, "--max-connection-age", "1", "--grace", "0.1", "--drain-pause", "0") as running:
        yield running


def connect(server: RunningServer) -> socket.socket:
    host, _, port = server.target.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each HTTP/2 frame until the connection is closed."""
    with connection.makefile("rb") as stream:
        while head := stream.read(9):
            yield head[3], stream.read(int.from_bytes(head[:3], "big"))


def client_ports(server: RunningServer) -> set[str]:
    """Of the connections that a server has now; gRPC's clients come by IPv6 sockets."""
    port = f"{int(server.target.rpartition(':')[2]):04X}"
    tables = "".join(Path(f"/proc/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6"))
    rows = (line.split()[1:4] for line in tables.splitlines())
    return {local for local, remote, state in rows if (remote.rpartition(":")[2], state) == (port, ESTABLISHED)}


def test_options_of_connections_are_known_to_grpc() -> None:
    """It says nothing of one that is not."""
    library = Path(cygrpc.__file__).read_bytes()
    for name, _ in _connection_options(read_settings([])):
        assert f"{name}\0".encode() in library, name


def test_old_connection_is_told_to_go_and_closed(aging_server: RunningServer) -> None:
    """GOAWAY without an error, then the end."""
    with connect(aging_server) as connection:
        connection.sendall(PREFACE + SETTINGS)
        codes = []
        for kind, payload in frames(connection):
            if kind == PING:
                connection.sendall(PING_ANSWER + payload)
            if kind == GOAWAY:
                codes.append(int.from_bytes(payload[4:8], "big"))
    assert codes
    assert set(codes) == {NO_ERROR}


def test_aging_connections_lose_no_call(aging_server: RunningServer) -> None:
    """Calls go on over one new connection after another; a stream that stood before is finished, however long it takes.
    By gRPC's defaults, which try nothing again but what went out as the connection's end came in, and no server has
    seen."""
    outcomes: Counter[str] = Counter()
    ports: set[str] = set()
    is_enough = threading.Event()
    with grpc.insecure_channel(aging_server.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)

        def requests() -> Iterator[pb.StreamAnalyzeRequest]:
            yield pb.StreamAnalyzeRequest(id="before", input=pb.TextInput(text="cat"), options=OPTIONS)
            is_enough.wait(60)
            yield pb.StreamAnalyzeRequest(id="after", input=pb.TextInput(text="cat"), options=OPTIONS)

        def call_on() -> None:
            while not is_enough.is_set():
                outcomes[stub.Embed.future(REQUEST, timeout=60).code().name] += 1

        stream = stub.StreamAnalyze(requests(), timeout=60)
        assert next(stream).id == "before"
        callers = [threading.Thread(target=call_on) for _ in range(4)]
        for caller in callers:
            caller.start()
        while len(ports) < 4:
            ports |= client_ports(aging_server)
            threading.Event().wait(0.01)
        is_enough.set()
        for caller in callers:
            caller.join()
        assert [answer.id for answer in stream] == ["after"]
    assert set(outcomes) == {"OK"}


def test_watches_of_the_health_are_bounded() -> None:
    """They have no end, and take no token. One that ends makes room."""
    with (
        running_server(PLAIN, "--max-connections", "1") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watches = [watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(16)]
        assert {next(answers).status for answers in watches} == {health_pb2.HealthCheckResponse.SERVING}
        with pytest.raises(grpc.RpcError, match="too many watches"):
            next(watch(health_pb2.HealthCheckRequest(), timeout=60))
        watches[0].cancel()
        ends = time.monotonic() + 60
        while not is_answered(watch):  # the server may hear of it a moment later
            assert time.monotonic() < ends


def is_answered(watch: Callable[..., Iterator[object]]) -> bool:
    try:
        return next(watch(health_pb2.HealthCheckRequest(), timeout=60)) is not None
    except grpc.RpcError:
        return False


@pytest.mark.slow
def test_mute_connections_are_closed_and_keep_nobody_out(tmp_path: Path) -> None:
    """Whatever they stop short of: the preface, the settings, the TLS handshake. Their places are free again after."""
    authority = Authority(tmp_path)
    issued = authority.issue("server")
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.set_alpn_protocols(["h2"])
    with (
        running_server(PLAIN, "--max-connections", "4") as clear,
        running_server(PLAIN, "--tls-certificate", issued.certificate, "--tls-key", issued.key) as encrypted,
        contextlib.ExitStack() as stack,
    ):
        mute = [stack.enter_context(connect(server)) for server in (clear,) * 4 + (encrypted,) * 4]
        mute[1].sendall(PREFACE[:10])
        mute[2].sendall(PREFACE)
        mute[5].sendall(CLIENT_HELLO_BEGUN)
        for index, sent in ((6, b""), (7, PREFACE)):
            mute[index] = stack.enter_context(context.wrap_socket(mute[index], server_hostname="127.0.0.1"))
            mute[index].sendall(sent)
        credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes())
        with grpc.secure_channel(encrypted.target, credentials) as channel:
            assert pb_grpc.BertServiceStub(channel).Embed(REQUEST, timeout=30).embeddings
        with grpc.insecure_channel(clear.target, [("grpc.max_reconnect_backoff_ms", 1000)]) as channel:
            assert pb_grpc.BertServiceStub(channel).Embed(REQUEST, timeout=60, wait_for_ready=True).embeddings
        for connection in mute:
            assert is_closed(connection)


def is_closed(connection: socket.socket) -> bool:
    """By the server, before the socket's timeout."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:  # reset
        return True
    return True
