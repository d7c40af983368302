"""What the distribution depends on, and why; what CI pins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

EXPORT_ONLY = {"torch", "transformers", "safetensors", "onnx"}

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
    text = (ROOT / "pyproject.toml").read_text()
    lines = re.findall(r'^    "([A-Za-z][\w.-]*(?:[=>~!<].*?)?)",(.*)$', text, flags=re.MULTILINE)
    requirements = [(Requirement(requirement).name, comment) for requirement, comment in lines if "=" in requirement]
    silent = {name for name, comment in requirements if not re.match(r"\s*# \S", comment)}
    assert len(requirements) > len(SELF_EXPLAINING)
    assert {name for name in silent if not name.startswith("types-")} <= SELF_EXPLAINING


def test_pins_are_plain() -> None:
    """constraints.txt holds exact versions and nothing else: no addresses, no local builds."""
    _comment, *lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]


def test_everything_required_is_pinned_to_a_version_that_fits(pyproject: dict[str, Any], pins: dict[str, str]) -> None:
    """Each requirement, the build's and the extras' included, has a pin inside its range."""
    project = pyproject["project"]
    optional = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    needed = [*project["dependencies"], *pyproject["build-system"]["requires"], *optional]
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement.name


def names_of(requirements: list[str]) -> set[str]:
    """Canonical names of the requirements."""
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}
