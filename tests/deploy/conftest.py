"""What deploy/ renders to and the Dockerfile, read once, as the tests here look at them."""

from __future__ import annotations

import functools
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from .containers import build_image, make_base

# Without bertbench's packages these cannot even be read.
collect_ignore = [] if find_spec("torch") else ["test_balancing.py", "test_deadly_text.py", "test_prometheus_live.py"]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBECTL = Path(sys.executable).parent / "kubectl"

Resource = dict[str, Any]


@functools.cache
def rendered(directory: str) -> list[Resource]:
    """What `kubectl apply -k` would send for a directory of deploy/, such as `overlays/tls`."""
    command = [KUBECTL, "kustomize", DEPLOY / directory]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    return list(yaml.safe_load_all(completed.stdout))


def of_kind(resources: list[Resource], kind: str) -> Resource:
    """The only resource of that kind."""
    (only,) = [resource for resource in resources if resource["kind"] == kind]
    return only


def pod_of(resources: list[Resource]) -> Resource:
    """The specification of the Deployment's pods."""
    pod: Resource = of_kind(resources, "Deployment")["spec"]["template"]["spec"]
    return pod


def container_of(resources: list[Resource]) -> Resource:
    """The only container of a pod."""
    (only,) = pod_of(resources)["containers"]
    return only


def environment_of(container: Resource) -> dict[str, str]:
    """Name → value of the container's environment."""
    return {variable["name"]: variable["value"] for variable in container["env"]}


@pytest.fixture(scope="session")
def base() -> list[Resource]:
    """All resources of deploy/base."""
    return rendered("base")


@pytest.fixture(scope="session")
def pod(base: list[Resource]) -> Resource:
    """The base's pods."""
    return pod_of(base)


@pytest.fixture(scope="session")
def container(base: list[Resource]) -> Resource:
    """The container of the base's pods."""
    return container_of(base)


@pytest.fixture(scope="session")
def image() -> str:
    """The project's image; skips where it cannot be built and run."""
    return build_image(make_base())


@pytest.fixture(scope="session")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(instruction, arguments) for instruction, arguments in lines]
