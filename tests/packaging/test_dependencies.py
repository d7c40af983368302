"""What the distribution depends on, and why; what CI pins."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from .conftest import FOLDERS

ROOT = Path(__file__).parents[2]

EXPORT_ONLY = {"torch", "transformers", "safetensors", "onnx"}

# What torch brings along on Linux, unless an index of CPU wheels is named: see TORCH_FLAGS in the Makefile.
CUDA = ("nvidia-", "cuda-", "triton")

# Tools whose name says what they do here: linters, types, test runner.
SELF_EXPLAINING = {"mypy", "pytest", "pytest-asyncio", "pytest-timeout", "ruff"}


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """Name → version of every line of constraints.txt that is not a comment."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_the_server_needs_no_training_library(pyproject: dict[str, Any]) -> None:
    """Neither the server nor the test tools bring torch, transformers, safetensors or onnx."""
    project = pyproject["project"]
    names = names_of(project["dependencies"]) | names_of(project["optional-dependencies"]["dev"])
    assert not names & EXPORT_ONLY
    assert names_of(project["optional-dependencies"]["export"]) >= EXPORT_ONLY


def test_every_dependency_says_why() -> None:
    """A requirement's line in pyproject.toml ends in its reason; stubs and tools that say it by name are exempt."""
    text = "".join((folder / "pyproject.toml").read_text() for folder in FOLDERS.values())
    lines = re.findall(r'^    "([A-Za-z][\w.-]*(?:[=>~!<].*?)?)",(.*)$', text, flags=re.MULTILINE)
    requirements = [(Requirement(requirement).name, comment) for requirement, comment in lines if "=" in requirement]
    silent = {name for name, comment in requirements if not re.match(r"\s*# \S", comment)}
    assert len(requirements) > len(SELF_EXPLAINING)
    assert {name for name in silent if not name.startswith("types-")} <= SELF_EXPLAINING


def test_pins_are_plain() -> None:
    """constraints.txt holds exact versions and nothing else: no addresses, no local builds."""
    _comment, *lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]


@pytest.mark.parametrize("name", FOLDERS)
def test_everything_required_is_pinned_to_a_version_that_fits(
    projects: dict[str, Any], pins: dict[str, str], name: str
) -> None:
    """Each requirement, the build's and the extras' included, has a pin inside its range."""
    for requirement in requirements_of(projects[name]):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement.name


def test_what_requirements_bring_along_is_pinned_too(projects: dict[str, Any], pins: dict[str, str]) -> None:
    """Everything that is needed at any remove and installed here has the pinned version."""
    requirements = [requirement for project in projects.values() for requirement in requirements_of(project)]
    installed = {name: Version(metadata.version(name)).public for name in needed_by(requirements)}
    assert len(installed) > len(projects["bertserve"]["project"]["dependencies"])
    assert {name: version for name, version in installed.items() if pins.get(name) != version} == {}


@pytest.mark.parametrize("name", FOLDERS)
def test_no_requirement_has_an_upper_bound(projects: dict[str, Any], name: str) -> None:
    """What is installed is installed beside what its users run. Tools of [dev] may be pinned."""
    project = projects[name]["project"]
    extras = {key: lines for key, lines in project.get("optional-dependencies", {}).items() if key != "dev"}
    requirements = [Requirement(line) for lines in [project["dependencies"], *extras.values()] for line in lines]
    assert {each.operator for one in requirements for each in one.specifier} == {">="}


def test_the_client_needs_grpc_protobuf_and_numpy_alone(projects: dict[str, Any]) -> None:
    """Nothing of the server or of the benchmarks comes along."""
    needed = names_of(projects["bertapi"]["project"]["dependencies"])
    assert needed == {"grpcio", "grpcio-status", "grpcio-health-checking", "protobuf", "numpy"}
    assert "optional-dependencies" not in projects["bertapi"]["project"]


def test_distributions_that_share_a_requirement_share_its_floor(projects: dict[str, Any]) -> None:
    floors: dict[str, set[str]] = {}
    for project in projects.values():
        for requirement in requirements_of(project):
            floors.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    assert {name: found for name, found in floors.items() if len(found) > 1} == {}


def requirements_of(pyproject: dict[str, Any]) -> list[Requirement]:
    """The build's, the distribution's and every extra's; our own distributions are not among them."""
    project = pyproject["project"]
    optional = [line for extra in project.get("optional-dependencies", {}).values() for line in extra]
    lines = [*project["dependencies"], *pyproject["build-system"]["requires"], *optional]
    return [requirement for line in lines if (requirement := Requirement(line)).name not in FOLDERS]


def needed_by(requirements: list[Requirement]) -> set[str]:
    """Canonical names of what they need and this environment has, at any remove."""
    found: dict[tuple[str, frozenset[str]], None] = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in found or requirement.name.startswith(CUDA) or not is_installed(requirement.name):
            continue
        found[key] = None
        inner = map(Requirement, metadata.requires(requirement.name) or [])
        waiting += [each for each in inner if applies(each, requirement.extras)]
    return {name for name, _ in found}


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a package needs it here, given which of its extras are asked for."""
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras})


def is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def names_of(requirements: list[str]) -> set[str]:
    """Canonical names of the requirements."""
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}
