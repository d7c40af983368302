"""Bearer tokens from a file: who is let in, and what is never told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from bertapi.oip import inference_pb2
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.doors.reloading import FileError
from bertserve.doors.tokens import Tokens
from bertserve.observe.metrics import Metrics
from certificates import Authority, replace
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from servers import PLAIN, RunningServer, running_server, start_refused

OLD = "old-token-1234567890"
NEW = "new.token~1234567890+/=="


TOKENS = f"# while they are rotated, both\n{OLD}\n\n{NEW}\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(TOKENS)
    with running_server(PLAIN, "--tokens", path, "--open-inference", "--max-open-streams", "1") as running:
        yield running


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file that the test may change."""
    path = tmp_path / "tokens"
    path.write_text(TOKENS)
    return path


@pytest.fixture
def changing(tokens: Path) -> Iterator[RunningServer]:
    """A server of that file."""
    with running_server(PLAIN, "--tokens", tokens, "--log-level", "debug") as running:
        yield running


def list_models(server: RunningServer, *authorization: str) -> grpc.StatusCode:
    metadata = [("authorization", value) for value in authorization]
    with grpc.insecure_channel(server.target) as channel:
        try:
            pb_grpc.BertServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=30, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not come true")


@pytest.mark.parametrize("header", [f"Bearer {OLD}", f"Bearer {NEW}", f"bearer {OLD}"])
def test_every_token_of_the_file_is_valid(guarded: RunningServer, header: str) -> None:
    """Two at a time let tokens rotate; the scheme's case does not matter (RFC 9110)."""
    assert list_models(guarded, header) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "header",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (OLD,),
        (f"Basic {OLD}",),
        (f"Bearer {OLD[:-1]}",),
        (f"Bearer {OLD}x",),
        (f"Bearer {OLD.upper()}",),
        ("Bearer # while they are rotated, both",),
    ],
)
def test_anything_else_is_unauthenticated(guarded: RunningServer, header: tuple[str, ...]) -> None:
    """No header, no token, another scheme, a token cut, longer, or in other letters."""
    assert list_models(guarded, *header) is grpc.StatusCode.UNAUTHENTICATED


def test_every_method_wants_a_token_but_those_of_health(guarded: RunningServer) -> None:
    """Those of the Open Inference Protocol and reflection too; a method that does not exist is none."""
    services = [*pb.DESCRIPTOR.services_by_name.values(), *inference_pb2.DESCRIPTOR.services_by_name.values()]
    with grpc.insecure_channel(guarded.target) as channel:
        for method in (method for service in services for method in service.methods):
            call = channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=30)
            assert caught.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=30))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == 1
        assert next(health.Watch(health_pb2.HealthCheckRequest(), timeout=30)).status == 1


def test_refused_calls_are_counted(guarded: RunningServer) -> None:
    """As every other code is."""
    labels = 'grpc_code="Unauthenticated",grpc_method="ListModels",grpc_service="bertapi.v1.BertService"'
    series = f'grpc_server_handled_total{{{labels},grpc_type="unary"}}'
    before = guarded.sample(series)
    list_models(guarded)
    assert guarded.sample(series) == before + 1


def test_refused_call_is_counted_once_though_all_streams_are_taken(guarded: RunningServer) -> None:
    """It is no stream that the server would have to hold, and its caller is told why he is refused."""
    stop = threading.Event()

    def silence() -> Iterator[pb.StreamAnalyzeRequest]:
        yield pb.StreamAnalyzeRequest(id="1", input=pb.TextInput(text="cat"))
        stop.wait(60)

    def started() -> list[float]:
        labels = 'grpc_method="ListModels",grpc_service="bertapi.v1.BertService",grpc_type="unary"'
        lines = guarded.page("/metrics")[1].splitlines()
        other = [line for line in lines if "ListModels" in line and "bidi_stream" in line]
        return [guarded.sample(f"grpc_server_started_total{{{labels}}}"), len(other)]

    with grpc.insecure_channel(guarded.target) as channel:
        metadata = [("authorization", f"Bearer {OLD}")]
        stream = pb_grpc.BertServiceStub(channel).StreamAnalyze(silence(), timeout=60, metadata=metadata)
        next(stream)
        before = started()
        assert list_models(guarded) is grpc.StatusCode.UNAUTHENTICATED
        assert started() == [before[0] + 1, 0]
        stop.set()
        assert not list(stream)


def test_refusal_does_not_wait_for_the_request(guarded: RunningServer) -> None:
    """Who has no token cannot make the server hold a message: it answers before one has come."""
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(60)
        yield b""

    with grpc.insecure_channel(guarded.target) as channel:
        call = channel.stream_unary("/bertapi.v1.BertService/ListModels")
        with pytest.raises(grpc.RpcError) as caught:
            call(silence(), timeout=30)
        never.set()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_changed_file_counts_within_seconds(changing: RunningServer, tokens: Path) -> None:
    """A token that was taken out lets nobody in any more, a new one does."""
    fresh = "fresh-token-1234567890"
    replace(tokens, f"{NEW}\n{fresh}\n".encode())
    wait_for(lambda: list_models(changing, f"Bearer {fresh}") is grpc.StatusCode.OK)
    assert list_models(changing, f"Bearer {OLD}") is grpc.StatusCode.UNAUTHENTICATED
    assert list_models(changing, f"Bearer {NEW}") is grpc.StatusCode.OK


def test_bad_file_leaves_the_old_tokens_in_force(changing: RunningServer, tokens: Path) -> None:
    """An empty file must neither let everybody in nor lock everybody out."""
    refused = 'bertserve_reloads_total{result="refused",what="tokens"}'
    replace(tokens, b"")
    wait_for(lambda: list_models(changing) is not None and changing.sample(refused) == 1)
    assert list_models(changing, f"Bearer {OLD}") is grpc.StatusCode.OK
    assert list_models(changing) is grpc.StatusCode.UNAUTHENTICATED


def test_no_token_is_logged(changing: RunningServer, tokens: Path) -> None:
    """Neither a valid one nor a wrong one, at any level, not even of a file that is refused."""
    wrong = "wrong-token-1234567890"
    list_models(changing, f"Bearer {OLD}")
    list_models(changing, f"Bearer {wrong}")
    replace(tokens, b"broken token 1234567890\n")
    refused = 'bertserve_reloads_total{result="refused",what="tokens"}'
    wait_for(lambda: list_models(changing) is not None and changing.sample(refused) == 1)
    changing.stop()
    log = "".join(changing.log)
    assert "the old ones stay in force" in log
    assert not [token for token in (OLD, NEW, wrong, "broken") if token in log]


@pytest.mark.parametrize(
    ("content", "hint"),
    [("", "no token"), ("# only words\n", "no token"), ("short\n", ":1: "), (f"{OLD}\ntwo words of it\n", ":2: ")],
)
def test_server_does_not_start_with_a_bad_file(tmp_path: Path, content: str, hint: str) -> None:
    """One line names the file and the line, without quoting it."""
    path = tmp_path / "tokens"
    path.write_text(content)
    status, line = start_refused(PLAIN, "--tokens", path)
    assert (status, hint in line, str(path) in line, "two words" in line) == (1, True, True, False)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nothing"):
        Tokens(tmp_path / "nothing", Metrics())


def test_tokens_do_not_cross_a_network_in_the_clear(tokens: Path) -> None:
    """Beyond loopback they want TLS, or the word of the operator that a proxy encrypts."""
    status, line = start_refused(PLAIN, "--host", "0.0.0.0", "--metrics-host", "127.0.0.1", "--tokens", tokens)  # noqa: S104
    assert (status, "--tls-certificate" in line) == (1, True)
    flags = ["--host", "0.0.0.0", "--metrics-host", "127.0.0.1", "--tokens", tokens, "--plaintext-tokens"]  # noqa: S104
    with running_server(PLAIN, *flags) as server:
        server.target = server.target.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert list_models(server, f"Bearer {OLD}") is grpc.StatusCode.OK


def test_tokens_and_mutual_tls_go_together(tokens: Path, tmp_path: Path) -> None:
    """Both are asked for."""
    authority = Authority(tmp_path)
    server_pair, client_pair = authority.issue("server"), authority.issue("client")
    flags = [
        "--tls-certificate",
        server_pair.certificate,
        "--tls-key",
        server_pair.key,
        "--tls-client-ca",
        authority.ca,
    ]
    credentials = grpc.ssl_channel_credentials(
        authority.ca.read_bytes(), client_pair.key.read_bytes(), client_pair.certificate.read_bytes()
    )
    with running_server(PLAIN, *flags, "--tokens", tokens) as server:
        for metadata, expected in (([("authorization", f"Bearer {OLD}")], "OK"), ([], "UNAUTHENTICATED")):
            with grpc.secure_channel(server.target, credentials) as channel:
                call = pb_grpc.BertServiceStub(channel).ListModels.future(
                    pb.ListModelsRequest(), timeout=30, metadata=metadata
                )
                assert call.code().name == expected
