"""The image, built from the Dockerfile and run as the manifests run it.

Skips, with the reason, where it cannot run at all.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from bertapi.client import BertClient
from bertapi.transport import channel_options
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from servers import PRETRAINING

from .containers import BAKED, IMAGE, LIMITED, RESTRICTED, added_bytes, engine, running, wait_until_ready

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

# A byte more in the server's own layers than this is a mistake: torch alone is larger.
OWN_BYTES_AT_MOST = 400e6

# A graph compiled or a bundle hashed twice at start would be more, in every round. What else the machine does can only
# add, so the quickest of each count, and there are more rounds where it was busy.
START_RATIO_AT_MOST = 2.0
ROUNDS = 3
ROUNDS_AT_MOST = 10

ABSENT = ["torch", "transformers", "onnx", "pip", "grpc_tools", "pytest"]


@contextmanager
def serving(image: str, *more: str, arguments: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
    """Name and port of one that is ready, under the Deployment's restrictions. more: options of podman. arguments: of
    the server, without which it serves the baked bundle."""
    port = free_port()
    name = f"bertserve-test-{port}"
    environment = [f"--env=BERTSERVE_PORT={port}", "--env=BERTSERVE_METRICS_PORT=0"]
    options = [f"--name={name}", "--network=host", *RESTRICTED, *LIMITED, *environment, *more]
    engine("podman", "run", "--detach", *options, image, *arguments)
    try:
        wait_until_ready(name, port)
        yield name, port
    finally:
        engine("podman", "rm", "--force", "--time=0", name, check=False)


@pytest.fixture(scope="module")
def server(image: str) -> Iterator[tuple[str, int]]:
    """One container for all tests that leave it as it is."""
    with serving(image) as running_one:
        yield running_one


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_the_image_says_how_it_is_run(image: str) -> None:
    """Numeric user, no shell, both ports and a health check are in the image's configuration."""
    (inspected,) = json.loads(engine("podman", "inspect", "--type=image", image).stdout)
    config: dict[str, Any] = inspected["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["bertserve"]
    assert set(config["ExposedPorts"]) == {"50051/tcp", "9090/tcp"}
    assert inspected["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize("module", ABSENT)
def test_the_image_lacks(image: str, module: str) -> None:
    """Nothing that only exporting, installing or testing needs can be imported."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is not None)"
    engine("podman", "run", "--rm", "--network=none", "--entrypoint=python", image, "-c", code)


@pytest.mark.parametrize("program", ["gcc", "make", "git"])
def test_the_image_has_no_build_tool(image: str, program: str) -> None:
    """No compiler and no tool of the developer."""
    code = f"import shutil, sys; sys.exit(shutil.which({program!r}) is not None)"
    engine("podman", "run", "--rm", "--network=none", "--entrypoint=python", image, "-c", code)


def test_the_image_is_slim(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the project adds to the base."""
    with capsys.disabled():
        print(f"\nthe image: {added_bytes(image) / 1e6:,.0f} MB on top of its base")
    assert added_bytes(image) < OWN_BYTES_AT_MOST


def test_the_container_starts_in_a_few_times_what_its_libraries_take(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From `podman run` to the ready line, beside a container that only loads what the server cannot be without: the
    machine's speed is in both."""
    rounds: list[tuple[float, float]] = []
    for number in range(1, ROUNDS_AT_MOST + 1):
        rounds.append((seconds_to_ready(image), seconds_to_load(image)))
        ready, loaded = (min(column) for column in zip(*rounds, strict=True))
        if number >= ROUNDS and ready / loaded < START_RATIO_AT_MOST:
            break
    with capsys.disabled():
        print(f"\nthe image: ready {ready:.2f} s after podman run; {loaded:.2f} s for a container that loads libraries")
    assert ready / loaded < START_RATIO_AT_MOST


def seconds_to_ready(image: str) -> float:
    name = f"bertserve-start-{free_port()}"
    environment = ["--env=BERTSERVE_PORT=0", "--env=BERTSERVE_METRICS_PORT=0"]
    began = time.monotonic()
    with running(name, *RESTRICTED, *LIMITED, *environment, image) as process:
        assert any(line.startswith("ready: ") for line in process.stdout or ())
        return time.monotonic() - began


def seconds_to_load(image: str) -> float:
    name = f"bertserve-start-{free_port()}"
    code = "import grpc, numpy, onnxruntime, prometheus_client, pydantic_settings, tokenizers"
    began = time.monotonic()
    with running(name, *RESTRICTED, *LIMITED, "--entrypoint=python", image, "-c", code) as process:
        assert process.wait() == 0
        return time.monotonic() - began


def test_the_container_answers_with_the_baked_bundle(server: tuple[str, int]) -> None:
    """Under a read-only root, without capabilities, it fills a mask for a client outside."""
    with BertClient(f"127.0.0.1:{server[1]}") as client:
        (filled,) = client.fill_mask("The [MASK] sat on the mat", model=BAKED)
    assert len(filled.masks) == 1


@pytest.mark.parametrize(
    ("options", "arguments", "model"),
    [
        (["--env=BERTSERVE_BUNDLES="], [], "demo"),
        ([f"--volume={PRETRAINING}:/models/mine:ro"], ["/models/mine"], "mine"),
    ],
    ids=["demo", "mounted"],
)
def test_the_container_serves_another_bundle(image: str, options: list[str], arguments: list[str], model: str) -> None:
    """A mounted one in place of the baked one, and the demo model where there is neither."""
    with serving(image, *options, arguments=arguments) as (_, port), BertClient(f"127.0.0.1:{port}") as client:
        assert [served.name for served in client.list_models()] == [model]


def test_the_health_check_tells_serving_from_silence(server: tuple[str, int]) -> None:
    """The image's own health command succeeds on the server, and fails where nothing listens."""
    (inspected,) = json.loads(engine("podman", "inspect", "--type=image", IMAGE).stdout)
    command = inspected["Healthcheck"]["Test"][1:]
    engine("podman", "exec", server[0], *command)
    assert engine("podman", "exec", "--env=BERTSERVE_PORT=1", server[0], *command, check=False).returncode == 1


def test_the_container_runs_as_nobody_with_nothing(server: tuple[str, int]) -> None:
    """The server's process has the numeric user and not one capability."""
    status = engine("podman", "exec", server[0], "cat", "/proc/1/status").stdout
    assert re.search(r"^Uid:\s+10001\s+10001\s", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)


def test_a_quota_sets_the_lanes(server: tuple[str, int]) -> None:
    """With one core's quota the server starts one lane, however many cores the machine has."""
    assert '"lanes": 1' in engine("podman", "logs", server[0]).stderr


def test_sigterm_under_load_loses_no_call(image: str, server: tuple[str, int]) -> None:
    """The server is process 1, hears SIGTERM, and exits 0 by itself; the other container has the calls from then on."""
    outcomes: Counter[str] = Counter()
    stopped = threading.Event()
    with serving(image) as (name, port):
        target = f"ipv4:127.0.0.1:{server[1]},127.0.0.1:{port}"
        with grpc.insecure_channel(target, [*channel_options(target), ("grpc.enable_http_proxy", 0)]) as channel:
            stub = pb_grpc.BertServiceStub(channel)

            def call_on() -> None:
                while not stopped.is_set():
                    try:
                        stub.Embed(pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat")]), timeout=30)
                        outcomes["OK"] += 1
                    except grpc.RpcError as error:
                        outcomes[f"{error.code().name}: {error.details()}"] += 1

            callers = [threading.Thread(target=call_on) for _ in range(4)]
            for caller in callers:
                caller.start()
            try:
                while outcomes["OK"] < 100:
                    stopped.wait(0.05)
                engine("podman", "stop", "--time=30", name)
                ended = outcomes["OK"]
                while outcomes["OK"] < ended + 100:
                    stopped.wait(0.05)
            finally:
                stopped.set()
                for caller in callers:
                    caller.join()
        assert engine("podman", "inspect", "--format={{.State.ExitCode}}", name).stdout.strip() == "0"
    assert set(outcomes) == {"OK"}
