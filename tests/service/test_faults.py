"""What befalls a real server process: stalls, signals, full disks, bundles that change under it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from bertapi.oip import inference_pb2 as oip
from bertapi.oip import inference_pb2_grpc as oip_grpc
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.doors.grpc.unserved import missing_names
from grpc_health.v1 import health_pb2, health_pb2_grpc
from open_inference import infer_request
from servers import CLASSIFIER, PRETRAINING, READY, RunningServer, command, running_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REQUEST = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat on the mat")])
EMBED_CALLS = 'grpc_server_started_total{grpc_method="Embed",grpc_service="bertapi.v1.BertService",grpc_type="unary"}'
FAULTY_SERVER = Path(__file__).parents[1] / "faulty_server.py"


@contextmanager
def stub_of(target: str) -> Iterator[pb_grpc.BertServiceStub]:
    with grpc.insecure_channel(target, options=[("grpc.enable_retries", 0)]) as channel:
        yield pb_grpc.BertServiceStub(channel)


@contextmanager
def faulty_server(stall_while: Path, *arguments: str, bundle: Path = PRETRAINING) -> Iterator[RunningServer]:
    environment = {"STALL_WHILE": str(stall_while)}
    with running_server(bundle, *arguments, environment=environment, program=FAULTY_SERVER) as server:
        yield server


def outcome(call: grpc.Future) -> str:
    error = call.exception(timeout=60)
    return error.code().name if error is not None else "OK"


def test_stalled_server_is_not_serving_until_its_engine_is_proven(tmp_path: Path) -> None:
    """Health of every name, readiness by any way, the callers at stake, and all of it back once runs end again."""
    stall = tmp_path / "stall"
    with (
        faulty_server(stall, "--stall-seconds", "0.5", "--open-inference") as server,
        grpc.insecure_channel(server.target) as channel,
        stub_of(server.target) as stub,
    ):
        health, inference = health_pb2_grpc.HealthStub(channel), oip_grpc.GRPCInferenceServiceStub(channel)
        watches = [
            health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60)
            for name in ("", "bertapi.v1.BertService", "inference.GRPCInferenceService")
        ]
        assert [next(watch).status for watch in watches] == [SERVING] * 3
        stall.touch()
        call = stub.Embed.future(REQUEST, timeout=60)
        assert [next(watch).status for watch in watches] == [NOT_SERVING] * 3
        assert outcome(call) == "UNAVAILABLE"
        assert not inference.ServerReady(oip.ServerReadyRequest(), timeout=60).ready
        assert not inference.ModelReady(oip.ModelReadyRequest(name="pretraining"), timeout=60).ready
        assert outcome(inference.ModelInfer.future(infer_request(["the cat"]), timeout=60)) == "UNAVAILABLE"
        assert (server.page("/readyz")[0], server.page("/livez")[0]) == (503, 200)
        assert outcome(stub.Embed.future(REQUEST, timeout=60)) == "UNAVAILABLE"
        stall.unlink()
        assert [next(watch).status for watch in watches] == [SERVING] * 3
        assert server.page("/readyz")[0] == 200
        assert inference.ServerReady(oip.ServerReadyRequest(), timeout=60).ready
        assert stub.Embed(REQUEST, timeout=60).embeddings
        assert server.stop() == 0


def test_engine_is_proven_though_its_files_are_gone(tmp_path: Path) -> None:
    """Whoever replaces a bundle on disk does not end the server that a stall befalls afterwards."""
    stall = tmp_path / "stall"
    bundle = Path(shutil.copytree(PRETRAINING, tmp_path / "bundle"))
    with faulty_server(stall, "--stall-seconds", "0.5", bundle=bundle) as server, stub_of(server.target) as stub:
        shutil.rmtree(bundle)
        stall.touch()
        assert outcome(stub.Embed.future(REQUEST, timeout=60)) == "UNAVAILABLE"
        stall.unlink()
        while server.page("/readyz")[0] != 200:
            threading.Event().wait(0.05)
        assert stub.Embed(REQUEST, timeout=60).embeddings


def test_server_whose_engine_stays_stalled_exits(tmp_path: Path) -> None:
    """With a status of its own, so that it is started anew; its threads that never come back do not keep it."""
    stall = tmp_path / "stall"
    with faulty_server(stall, "--stall-seconds", "0.2") as server, stub_of(server.target) as stub:
        stall.touch()
        calls = [stub.Embed.future(REQUEST, timeout=100) for _ in range(20)]
        assert {outcome(call) for call in calls} == {"UNAVAILABLE"}
        assert server.process.wait(timeout=100) == 3


ENDING_SERVER = """
from bertserve.doors.grpc import unserved
from bertserve.__main__ import main

async def fail(acceptor):
    await acceptor._request_call()
    raise RuntimeError

unserved.refuse_unserved = fail
main()
"""


@pytest.mark.skipif(bool(missing_names()), reason=f"this grpcio lacks {missing_names()}")
def test_server_whose_port_is_closed_exits(tmp_path: Path) -> None:
    """Whatever ends gRPC's loop: a process without a port answers no probe of the metrics port any more."""
    program = tmp_path / "ending_server.py"
    program.write_text(ENDING_SERVER)
    with running_server(PRETRAINING, program=program) as server, grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/a/b")(b"", timeout=60)
        assert server.process.wait(timeout=60) == 3
    assert "gRPC has closed its port" in "".join(server.log)


def test_drain_ends_in_time_though_a_run_does_not(tmp_path: Path) -> None:
    """Past the grace the process leaves, with status 0, whatever its lanes do."""
    stall = tmp_path / "stall"
    with faulty_server(stall, "--grace", "0.5") as server, stub_of(server.target) as stub:
        stall.touch()
        call = stub.Embed.future(REQUEST, timeout=60)
        while not server.sample(EMBED_CALLS):
            threading.Event().wait(0.01)
        assert server.stop() == 0
        assert outcome(call) in {"UNAVAILABLE", "CANCELLED"}


def test_stopped_process_loses_no_lane_and_no_call() -> None:
    """SIGSTOP for longer than the stall bound, then SIGCONT: what was sent meanwhile is answered."""
    with running_server(PRETRAINING, "--stall-seconds", "0.5") as server, stub_of(server.target) as stub:
        assert stub.Embed(REQUEST, timeout=60).embeddings
        calls = [stub.Embed.future(REQUEST, timeout=60) for _ in range(200)]
        server.process.send_signal(signal.SIGSTOP)
        calls += [stub.Embed.future(REQUEST, timeout=60) for _ in range(20)]
        time.sleep(2)
        server.process.send_signal(signal.SIGCONT)
        assert {outcome(call) for call in calls} == {"OK"}
        assert server.sample("bertserve_lanes_lost_total") == 0


def test_killed_server_is_replaced_on_the_same_port() -> None:
    """Callers learn at once; nothing that it leaves behind keeps the next one from starting."""
    with running_server(PRETRAINING) as server, stub_of(server.target) as stub:
        calls = [stub.Embed.future(pb.EmbedRequest(inputs=REQUEST.inputs[:] * 500), timeout=60) for _ in range(5)]
        server.process.kill()
        assert {outcome(call) for call in calls} <= {"OK", "UNAVAILABLE"}
        port = server.target.rpartition(":")[2]
        with running_server(PRETRAINING, "--port", port) as second, stub_of(second.target) as stub_of_second:
            assert stub_of_second.Embed(REQUEST, timeout=60, wait_for_ready=True).embeddings


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_full_disk_for_logs_stops_nothing() -> None:
    """Log lines are lost; calls, the drain and the exit status are not."""
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(
            command("--port", "0", "--metrics-port", "0", "--drain-pause", "0", PRETRAINING),
            stdout=subprocess.PIPE, stderr=full, text=True,
        ) as process,
    ):  # fmt: skip
        ready = READY.fullmatch(process.stdout.readline())  # type: ignore[union-attr]
        assert ready is not None
        with stub_of(ready[1]) as stub:
            assert stub.Embed(REQUEST, timeout=60).embeddings
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_bundle_replaced_on_disk_is_served_as_it_was(tmp_path: Path) -> None:
    """Another bundle under the same name, even none: what was loaded and checked is what answers, until a restart."""
    bundle = shutil.copytree(PRETRAINING, tmp_path / "bundle")
    with running_server(bundle) as server, stub_of(server.target) as stub:
        before = stub.Embed(REQUEST, timeout=60)
        bundle.rename(tmp_path / "old")
        shutil.copytree(CLASSIFIER, bundle)
        shutil.rmtree(tmp_path / "old")
        after = stub.Embed(REQUEST, timeout=60)
        assert after.embeddings[0].vectors == before.embeddings[0].vectors
        assert after.info.bundle_id == before.info.bundle_id
