"""Other people's clients, made ready once; and servers that refuse on demand. What a client needs and is not there is
named, and its tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from servers import PRETRAINING, RunningServer, running_server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "clients"
FAULTY_SERVER = Path(__file__).parents[1] / "faulty_server.py"

GO_LIBRARIES = Path("/usr/share/gocode")
GO_PACKAGES = (
    "apt-get install golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev "
    "protoc-gen-go protoc-gen-go-grpc"
)
GO_MODULE = "example.com/bertclient"

Run = Callable[..., subprocess.CompletedProcess[str]]


def tool(program: str, remedy: str) -> str:
    """Where a program is, this environment's own first; skips, with what to install, where it is not."""
    path = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{program} is missing: {remedy}")
    return path


def built(command: list[str | Path], **environment: str) -> None:
    """Run a step of making a client ready; fails with what it printed."""
    completed = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=240
    )
    assert completed.returncode == 0, f"{command}: {completed.stdout}{completed.stderr}"


@pytest.fixture(scope="session")
def python_client() -> list[str | Path]:
    return [sys.executable, "-W", "error", EXAMPLES / "client.py"]


@pytest.fixture(scope="session")
def shell_client() -> list[str | Path]:
    tool("jq", "apt-get install jq")
    return [EXAMPLES / "client.sh"]


@pytest.fixture(scope="session")
def node_client() -> list[str | Path]:
    """npm puts its packages beside package.json; they stay there for the next run."""
    node, npm = tool("node", "apt-get install nodejs"), tool("npm", "apt-get install npm")
    installed, wanted = EXAMPLES / "node_modules" / ".package-lock.json", EXAMPLES / "package.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        built(
            [npm, "install", "--prefix", EXAMPLES, "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        )
    return [node, EXAMPLES / "client.mjs"]


@pytest.fixture(scope="session")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Built as README.md says, but with Debian's libraries, which lie in a GOPATH, in place of downloaded modules."""
    go, _ = tool("go", GO_PACKAGES), tool("protoc-gen-go-grpc", GO_PACKAGES)
    if not (GO_LIBRARIES / "src" / "google.golang.org" / "grpc").is_dir():
        pytest.skip(f"grpc-go is missing: {GO_PACKAGES}")
    workspace = tmp_path_factory.mktemp("go")
    module = workspace / "src" / GO_MODULE
    module.mkdir(parents=True)
    for file in (EXAMPLES / "client.go", ROOT / "proto" / "bertapi" / "service_config.json"):
        shutil.copy(file, module)
    template = EXAMPLES / "buf.gen.yaml"
    built([tool("buf", "pip install buf-bin"), "generate", "--template", template, "--output", module, ROOT / "proto"])
    program = workspace / "client"
    built([go, "build", "-o", program, GO_MODULE], GO111MODULE="off", GOPATH=f"{workspace}:{GO_LIBRARIES}", GOFLAGS="")
    return [program]


@pytest.fixture(params=["python", "go", "node", "shell"])
def client(request: pytest.FixtureRequest) -> Run:
    """Runs the example of one language: `client(HOST:PORT, seconds)`."""
    command = request.getfixturevalue(f"{request.param}_client")

    def run(target: str, seconds: float | str = 30) -> subprocess.CompletedProcess[str]:
        return run_client([*command, target, str(seconds)])

    return run


def run_client(command: list[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """A client's whole run. Its tools come from this environment first; Debian's grpc-go retries only when asked."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        env={**os.environ, "PATH": path, "GRPC_GO_RETRY": "on", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def stalled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A ready server whose runs stand still from now on."""
    stall = tmp_path_factory.mktemp("stall") / "stall"
    options = ["--queue-tokens", "64", "--stall-seconds", "600"]
    environment = {"STALL_WHILE": str(stall)}
    with running_server(PRETRAINING, *options, environment=environment, program=FAULTY_SERVER) as server:
        stall.touch()
        yield server


@pytest.fixture
def full_server(stalled_server: RunningServer) -> Iterator[RunningServer]:
    """The same with a full queue: the next call is refused."""
    text = pb.TextInput(text="the")
    with grpc.insecure_channel(stalled_server.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        waiting = []
        while not any(call.done() for call in waiting):
            waiting.append(stub.Embed.future(pb.EmbedRequest(inputs=[text]), timeout=120))
            stub.Tokenize(pb.TokenizeRequest(inputs=[text]), timeout=60)  # answered after the call before it was let in
        yield stalled_server
        for call in waiting:
            call.cancel()
    # Counted a moment later, and tests count.
    wait_until(lambda: counted(stalled_server, "started") == counted(stalled_server, "handled"))


def counted(server: RunningServer, what: str) -> float:
    """All calls that the server has started, or handled."""
    return sum(value for name, value in server.samples() if name.startswith(f"grpc_server_{what}_total{{"))


def wait_until(happened: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < ends, "it does not happen"
        time.sleep(0.01)
