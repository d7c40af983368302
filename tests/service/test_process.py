"""The server as a process: how it starts, refuses to start, says it is ready, and leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from fuzzing import PREFACE, call_headers, frame
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from servers import CLASSIFIER, PLAIN, PRETRAINING, RunningServer, command, running_server, start_refused

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("name", sorted(path.name for path in PRETRAINING.iterdir()))
def test_one_changed_byte_in_any_file_is_refused(tmp_path: Path, name: str) -> None:
    """Wherever the byte stands, the server does not start and says where; there, it may be of a hash."""
    bundle = shutil.copytree(PRETRAINING, tmp_path / "bundle")
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    status, line = start_refused(bundle)
    assert status == 1
    assert str(bundle if name == "manifest.json" else bundle / name) in line


def remove_graph(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()


def truncate_graph(bundle: Path) -> None:
    content = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(content[: len(content) // 2])


def remove_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def edit_manifest(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        edit(manifest)
        (bundle / "manifest.json").write_text(json.dumps(manifest))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "graph missing": (remove_graph, "model.onnx"),
    "graph truncated": (truncate_graph, "model.onnx"),
    "manifest missing": (remove_manifest, "manifest.json"),
    "newer schema": (edit_manifest(lambda m: m.update(schema_version=99)), "schema version 99"),
    "path that leaves the bundle": (
        edit_manifest(lambda m: m["files"].update({"../outside": m["files"]["model.onnx"]})),
        "leaves the bundle's directory",
    ),
    "absolute path": (
        edit_manifest(lambda m: m["files"].update({"/etc/passwd": m["files"]["model.onnx"]})),
        "leaves the bundle's directory",
    ),
    "file not listed": (edit_manifest(lambda m: m["files"].pop("golden.npz")), "golden.npz"),
    "unknown field": (edit_manifest(lambda m: m.update(surprise=1)), "surprise"),
    "changed fact": (edit_manifest(lambda m: m["model"].update(max_tokens=64)), "bundle id"),
    "no JSON": (lambda bundle: (bundle / "manifest.json").write_text("{"), "manifest.json"),
}


@pytest.mark.parametrize(("damage", "hint"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_bundle_is_refused(tmp_path: Path, damage: Callable[[Path], object], hint: str) -> None:
    """One clear line, exit status 1, no traceback."""
    bundle = shutil.copytree(PRETRAINING, tmp_path / "bundle")
    damage(bundle)
    status, line = start_refused(bundle)
    assert status == 1
    assert hint in line


def test_missing_bundle_is_refused(tmp_path: Path) -> None:
    """A directory that is not there is named."""
    status, line = start_refused(tmp_path / "nothing")
    assert (status, str(tmp_path / "nothing") in line) == (1, True)


def test_repeated_name_is_refused() -> None:
    """Two bundles cannot share a name."""
    status, line = start_refused(PRETRAINING, f"pretraining={CLASSIFIER}")
    assert (status, "given twice" in line) == (2, True)


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_port_in_use_is_refused(flag: str) -> None:
    """The line names the address and the flag."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, line = start_refused(PRETRAINING, flag, port)
    assert status == 1
    assert port in line
    assert flag in line


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(["--port", "http"], "--port"), (["--lanes", "0"], "--lanes"), (["--no-such-flag"], "--no-such-flag")],
    ids=["not a number", "out of range", "unknown"],
)
def test_wrong_flag_is_a_usage_error(arguments: list[str], hint: str) -> None:
    """Exit status 2, and the flag is named."""
    status, line = start_refused(PRETRAINING, *arguments)
    assert (status, hint in line) == (2, True)


def test_settings_come_from_the_environment() -> None:
    """BERTSERVE_BUNDLES names several bundles; a flag beats its variable."""
    bundles = f"one={PRETRAINING} two={CLASSIFIER}"
    environment = {"BERTSERVE_BUNDLES": bundles, "BERTSERVE_MAX_INPUTS": "7", "BERTSERVE_MAX_TOP_K": "3"}
    with (
        running_server("--max-top-k", "9", environment=environment) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        models = pb_grpc.BertServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=30).models
        assert [(model.name, model.max_inputs, model.max_top_k) for model in models] == [("one", 7, 9), ("two", 7, 9)]


def test_health_is_serving_for_the_server_and_the_service(server: RunningServer) -> None:
    """Both names that probes and clients ask for."""
    with grpc.insecure_channel(server.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "bertapi.v1.BertService"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status == SERVING


@pytest.mark.skipif(
    not hasattr(health_pb2_grpc.HealthServicer, "List"), reason="this grpcio-health-checking has no Health.List"
)
def test_health_lists_the_server_and_the_service(server: RunningServer) -> None:
    """Both names, and no other."""
    with grpc.insecure_channel(server.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        listed = health.List(health_pb2.HealthListRequest(), timeout=30).statuses
        assert {name: health.status for name, health in listed.items()} == {
            "": SERVING,
            "bertapi.v1.BertService": SERVING,
        }


def test_reflection_lists_the_service(server: RunningServer) -> None:
    """Tools can call without the .proto."""
    with grpc.insecure_channel(server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=30)
        names = {service.name for service in answer.list_services_response.service}
        assert {"bertapi.v1.BertService", "grpc.health.v1.Health"} <= names


def test_reflection_is_asked_by_messages(server: RunningServer) -> None:
    """What is none is its caller's fault, and leaves no trace in the log."""
    with grpc.insecure_channel(server.target) as channel:
        ask = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as caught:
            next(ask(iter([b"\xff"]), timeout=30))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404)])
def test_pages_of_the_metrics_port(server: RunningServer, path: str, status: int) -> None:
    """Liveness, readiness and metrics are plain HTTP."""
    assert server.page(path)[0] == status


def test_sigterm_with_nothing_under_way_exits_cleanly() -> None:
    """Exit status 0, and nothing on stdout but the ready line."""
    with running_server(PRETRAINING) as server:
        assert server.stop() == 0
        assert server.process.stdout.read() == ""  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_before_ready_ends_the_process_at_once(number: signal.Signals) -> None:
    """Nothing was accepted, so nothing is waited for; no traceback either."""
    bundles = [f"model{index}={PRETRAINING}" for index in range(200)]
    arguments = command("--port", "0", "--metrics-port", "0", *bundles)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_signal_handler(process.pid, number)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (128 + number, "")
    assert "Traceback" not in stderr


def wait_for_signal_handler(pid: int, number: signal.Signals) -> None:
    """Until the process catches the signal, as /proc tells."""
    for _ in range(3000):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
        # Python itself catches SIGINT from its start, so that SIGTERM tells for both.
        if caught & (1 << (signal.SIGTERM - 1)):
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{number} is not caught")


def test_nothing_is_reported_to_the_runtimes_maker(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry, on by default, keeps a database in the home directory: none is made."""
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CI": ""}
    with running_server(PRETRAINING, environment=environment) as server:
        assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path)]
        assert server.stop() == 0
    assert not list(tmp_path.rglob("*.db"))


def test_drain_answers_not_serving_then_serves_on_through_the_pause() -> None:
    """A health watch and /readyz say so at once; calls are still answered; the open watch holds nothing up."""
    with running_server(PRETRAINING, "--drain-pause", "3") as server, grpc.insecure_channel(server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=60)
        assert next(watch).status == SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        assert (server.page("/readyz")[0], server.page("/livez")[0]) == (503, 200)
        request = pb.EmbedRequest(inputs=[pb.TextInput(text="cat")])
        assert pb_grpc.BertServiceStub(channel).Embed(request, timeout=30).embeddings
        assert server.process.wait(timeout=30) == 0


def test_watcher_who_does_not_read_holds_nobody_up() -> None:
    """Whose window takes no byte of an answer. Others hear of the status, and the server leaves."""
    service = "bertapi.v1.BertService"
    request = health_pb2.HealthCheckRequest(service=service)
    message = request.SerializeToString()
    watch = PREFACE + b"".join(
        [
            frame(4, 0, 0, b"\x00\x04" + bytes(4)),  # SETTINGS_INITIAL_WINDOW_SIZE: 0
            frame(1, 4, 1, call_headers("Watch", service="grpc.health.v1.Health")),
            frame(0, 1, 1, bytes(4) + bytes([len(message)]) + message),
        ]
    )
    with running_server(PLAIN) as server:
        host, _, port = server.target.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=60) as connection,
            grpc.insecure_channel(server.target) as channel,
        ):
            connection.sendall(watch)
            with connection.makefile("rb") as frames:
                while (head := frames.read(9))[3] != 1:  # until the headers of its answer
                    frames.read(int.from_bytes(head[:3], "big"))
            assert next(health_pb2_grpc.HealthStub(channel).Watch(request, timeout=30)).status == SERVING
            assert server.stop() == 0


def test_accepted_calls_are_answered_during_drain() -> None:
    """Calls that stream in while SIGTERM comes are answered, or refused as UNAVAILABLE; none is lost otherwise."""
    outcomes: list[str] = []
    with running_server(PRETRAINING, "--drain-pause", "0.5") as server, grpc.insecure_channel(server.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        request = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat on the mat")] * 50)

        def call_until_refused() -> None:
            for _ in range(10_000):
                try:
                    stub.Embed(request, timeout=30)
                    outcomes.append("OK")
                except grpc.RpcError as error:
                    outcomes.append(error.code().name)
                    return

        callers = [threading.Thread(target=call_until_refused) for _ in range(4)]
        for caller in callers:
            caller.start()
        while len(outcomes) < 20:
            threading.Event().wait(0.01)
        assert server.stop() == 0
        for caller in callers:
            caller.join(timeout=30)
    assert set(outcomes) == {"OK", "UNAVAILABLE"}
    assert outcomes.count("UNAVAILABLE") == len(callers)


def test_log_lines_are_json(server: RunningServer) -> None:
    """Each line is one object with time, level and message."""
    assert server.log
    for line in server.log:
        assert {"time", "level", "message"} <= json.loads(line).keys()


def test_log_holds_lanes_and_bundle_ids(server: RunningServer) -> None:
    """An operator finds in the log what the rules decided and what was loaded."""
    lines = [json.loads(line) for line in server.log]
    lanes = next(line for line in lines if line["message"] == "lanes")
    assert lanes["lanes"] * lanes["lane_threads"] <= max(1, len(os.sched_getaffinity(0)))
    assert {line["model"] for line in lines if line["message"] == "model loaded"} == {
        "pretraining",
        "classifier",
        "plain",
        "tagger",
    }


def test_large_answer_under_way_is_sent_during_drain() -> None:
    """An accepted call is over when its last byte is sent, not when its answer is made."""
    with running_server(PRETRAINING, "--drain-pause", "0") as server:
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(server.target, options=options) as channel:
            stub = pb_grpc.BertServiceStub(channel)
            request = pb.EmbedRequest(
                inputs=[pb.TextInput(text="cat " * 120)] * 500,
                options=pb.EmbedOptions(pooling=pb.POOLING_NONE, layers=[0, 1, 2], include_tokens=True),
            )
            call = stub.Embed.future(request, timeout=60)
            while not server.sample('bertserve_tokens_total{model="pretraining"}'):
                threading.Event().wait(0.01)
            server.process.send_signal(signal.SIGTERM)
            assert len(call.result().embeddings) == 500
        assert server.process.wait(timeout=60) == 0


def test_server_listens_on_ipv6() -> None:
    """Both ports, and the ready line writes the addresses so that they can be copied."""
    with running_server(PRETRAINING, "--host", "::1") as server, grpc.insecure_channel(server.target) as channel:
        assert server.target.startswith("[::1]:")
        assert pb_grpc.BertServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=30).models
        assert server.page("/livez")[0] == 200


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-connection-age", "inf"),
        ("--grace", "3000000"),
        ("--max-request-bytes", "3000000000"),
        ("--lanes", "100000"),
    ],
)
def test_value_out_of_range_is_a_usage_error(flag: str, value: str) -> None:
    """What gRPC or the system could not take is refused before, and the flag named."""
    status, line = start_refused(PRETRAINING, flag, value)
    assert (status, flag in line) == (2, True)
