"""The image built and containers run by buildah and podman: no daemon, no registry.

Storage lies in the cache folder, so that a second run is quick.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bertserve-image"
BASE_IMAGE = "localhost/bertserve-base:bookworm"
IMAGE = "localhost/bertserve:test"
EXPORT_IMAGE = "localhost/bertexport:test"
BAKED = "baked"

PROGRAMS = ["buildah", "podman", "runc", "debootstrap", "catatonit"]

# What the Deployment's security context and limits ask of a container, with less of both.
RESTRICTED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
LIMITED = ["--cpus=1", "--memory=1g"]

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


def engine(program: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs buildah or podman on the tests' own storage."""
    completed = subprocess.run(
        _command(program, *arguments), env=_environment(), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert not check or completed.returncode == 0, f"{program} {arguments}: {completed.stderr}{completed.stdout}"
    return completed


@contextmanager
def running(name: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`podman run` in the foreground, its stdout to be read; the container is gone afterwards."""
    command = _command("podman", "run", f"--name={name}", *arguments)
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=_environment(), text=True, cwd=ROOT, **output) as process:
        try:
            yield process
        finally:
            engine("podman", "rm", "--force", "--time=0", name, check=False)


def _command(program: str, *arguments: str | Path) -> list[str | Path]:
    return [program, "--root", STORE / "storage", "--runroot", STORE / "run", *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "CONTAINERS_CONF": str(STORE / "containers.conf")}


def make_base() -> str:
    """A base image that podman can run here; skips, with the reason, where there can be none."""
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


def build_image(base: str) -> str:
    """The project's image with a baked bundle."""
    return _build("serve", IMAGE, [f"BASE_IMAGE={base}", "BUNDLE=service/bertserve/demo", f"MODEL={BAKED}"])


def build_export_image(base: str) -> str:
    """The image that exports; skips where pip would take a torch with CUDA, gigabytes of it.

    Wheels on this machine, which pip is told of by PIP_FIND_LINKS, are lent to the build; TORCH_FLAGS is the build's.
    """
    flags, wheels = os.environ.get("TORCH_FLAGS", ""), os.environ.get("PIP_FIND_LINKS", "")
    if Path(wheels).is_absolute():
        flags = f"--find-links {wheels} {flags}"
    if not flags:
        pytest.skip("the export image is not tested: TORCH_FLAGS names no torch for CPUs (PIP_FIND_LINKS no wheels)")
    lent = [f"--volume={wheels}:{wheels}:ro"] if Path(wheels).is_absolute() else []
    return _build("export", EXPORT_IMAGE, [f"BASE_IMAGE={base}", f"TORCH_FLAGS={flags}"], lent)


def _build(target: str, name: str, arguments: Sequence[str], options: Sequence[str] = ()) -> str:
    """In the format that keeps the health check."""
    options = ["--isolation=chroot", "--format=docker", "--pull-never", f"--target={target}", *options]
    engine("buildah", "bud", *options, *(f"--build-arg={one}" for one in arguments), f"--tag={name}", ROOT)
    engine("podman", "image", "prune", "--force")
    return name


def added_bytes(image: str) -> int:
    """What the image has beside its base."""
    sizes = [int(engine("podman", "image", "inspect", "--format={{.Size}}", one).stdout) for one in (image, BASE_IMAGE)]
    return sizes[0] - sizes[1]


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
