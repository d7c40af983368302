"""The image, built from the Dockerfile and run as the manifests run it, by buildah and podman: no daemon, no registry.

Storage lies in the cache folder, so that a second run is quick. Skips, with the reason, where it cannot run at all.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bertapi.client import BertClient

from .conftest import of_kind, rendered

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
STORE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bertserve-image"
BASE_IMAGE = "localhost/bertserve-base:bookworm"
IMAGE = "localhost/bertserve:test"

PROGRAMS = ["buildah", "podman", "runc", "debootstrap", "catatonit"]

# What the Deployment's security context asks of a container.
RESTRICTED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]

# runc with cgroupfs and modest limits: it runs inside other containers and on hosts with mixed control groups.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""

ABSENT = ["torch", "transformers", "onnx", "pip", "grpc_tools", "pytest"]


def engine(program: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs buildah or podman on the tests' own storage."""
    storage = ["--root", STORE / "storage", "--runroot", STORE / "run"]
    environment = {**os.environ, "CONTAINERS_CONF": str(STORE / "containers.conf")}
    completed = subprocess.run(
        [program, *storage, *arguments], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert not check or completed.returncode == 0, f"{program} {arguments}: {completed.stderr}{completed.stdout}"
    return completed


@pytest.fixture(scope="module")
def base() -> str:
    """A base image that podman can run here."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid():
        pytest.skip(f"the image is not tested: needs root, and misses {missing or 'nothing else'}")
    STORE.mkdir(parents=True, exist_ok=True)
    (STORE / "containers.conf").write_text(CONTAINERS_CONF)
    made = subprocess.run(
        [ROOT / ".ci" / "base-image", BASE_IMAGE],
        env={**os.environ, "STORE": str(STORE)},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"the image is not tested: no base image can be made here: {made.stderr[-500:]}")
    probe = engine("podman", "run", "--rm", "--network=host", *RESTRICTED, BASE_IMAGE, "true", check=False)
    if probe.returncode:
        pytest.skip(f"the image is not tested: podman runs no container here: {probe.stderr[-500:]}")
    return BASE_IMAGE


@pytest.fixture(scope="module")
def image(base: str) -> str:
    """The project's image, in the format that keeps the health check."""
    options = ["--isolation=chroot", "--format=docker", "--pull-never", f"--build-arg=BASE_IMAGE={base}"]
    engine("buildah", "bud", *options, f"--tag={IMAGE}", ROOT)
    engine("podman", "image", "prune", "--force")
    return IMAGE


@pytest.fixture(scope="module")
def port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(image: str, port: int) -> Iterator[str]:
    """Name of a container that serves the demo model under the restrictions of the Deployment, and is ready."""
    name = f"bertserve-test-{port}"
    environment = [f"--env=BERTSERVE_PORT={port}", "--env=BERTSERVE_METRICS_PORT=0", "--env=BERTSERVE_DRAIN_PAUSE=0"]
    engine("podman", "run", "--detach", f"--name={name}", "--network=host", *RESTRICTED, *environment, image)
    try:
        wait_until_ready(name, port)
        yield name
    finally:
        engine("podman", "rm", "--force", "--time=0", name, check=False)


def wait_until_ready(name: str, port: int) -> None:
    """Returns when the container has printed its ready line; fails with its log when it ends or takes a minute."""
    deadline = time.monotonic() + 60
    while True:
        log = engine("podman", "logs", name)
        if re.search(rf"^ready: grpc 0\.0\.0\.0:{port} metrics 0\.0\.0\.0:\d+$", log.stdout, re.MULTILINE):
            return
        running = engine("podman", "inspect", "--format={{.State.Running}}", name).stdout.strip() == "true"
        assert running, f"the server ended: {log.stdout}{log.stderr}"
        assert time.monotonic() < deadline, f"the server is not ready: {log.stdout}{log.stderr}"
        time.sleep(0.2)


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


@pytest.mark.usefixtures("server")
def test_the_container_answers(port: int) -> None:
    """Under a read-only root, without capabilities, the demo model fills a mask for a client outside."""
    with BertClient(f"127.0.0.1:{port}") as client:
        (filled,) = client.fill_mask("The [MASK] sat on the mat")
    assert len(filled.masks) == 1


def test_the_health_check_tells_serving_from_silence(server: str) -> None:
    """The image's own health command succeeds on the server, and fails where nothing listens."""
    (inspected,) = json.loads(engine("podman", "inspect", "--type=image", IMAGE).stdout)
    command = inspected["Healthcheck"]["Test"][1:]
    engine("podman", "exec", server, *command)
    assert engine("podman", "exec", "--env=BERTSERVE_PORT=1", server, *command, check=False).returncode == 1


def test_the_container_runs_as_nobody_with_nothing(server: str) -> None:
    """The server's process has the numeric user and not one capability."""
    status = engine("podman", "exec", server, "cat", "/proc/1/status").stdout
    assert re.search(r"^Uid:\s+10001\s+10001\s", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)


def test_the_container_drains_on_sigterm(image: str, port: int) -> None:
    """The server is process 1, hears SIGTERM, and exits 0 by itself."""
    name = f"bertserve-stop-{port}"
    engine("podman", "run", "--detach", f"--name={name}", "--network=none", "--env=BERTSERVE_DRAIN_PAUSE=0", image)
    try:
        wait_until_ready(name, 50051)
        engine("podman", "stop", "--time=30", name)
        assert engine("podman", "inspect", "--format={{.State.ExitCode}}", name).stdout.strip() == "0"
    finally:
        engine("podman", "rm", "--force", "--time=0", name, check=False)


def test_a_quota_sets_the_lanes(image: str, port: int) -> None:
    """With one core's quota the server starts one lane, however many cores the machine has."""
    name = f"bertserve-quota-{port}"
    engine("podman", "run", "--detach", f"--name={name}", "--network=none", "--cpus=1", "--memory=1g", image)
    try:
        wait_until_ready(name, 50051)
        log = engine("podman", "logs", name)
        assert '"lanes": 1' in log.stderr
    finally:
        engine("podman", "rm", "--force", "--time=0", name, check=False)


def test_the_deployment_runs(image: str, tmp_path: Path) -> None:
    """Podman starts the Deployment of the base as it stands, but for the image's name, and its health check passes."""
    deployment = copy.deepcopy(of_kind(rendered("base"), "Deployment"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container |= {"image": image, "imagePullPolicy": "Never"}
    manifest = tmp_path / "deployment.yaml"
    manifest.write_text(yaml.safe_dump(deployment))
    name = "bertserve-pod-0-bertserve"
    try:
        engine("podman", "play", "kube", manifest)
        wait_until_ready(name, 50051)
        engine("podman", "exec", name, "python", "/opt/bertserve/healthcheck.py")
    finally:
        engine("podman", "play", "kube", "--down", manifest, check=False)
