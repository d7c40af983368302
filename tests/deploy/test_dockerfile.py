"""The Dockerfile, as far as it can be judged without building it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bertserve.settings import Settings

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sys.executable).parent / "hadolint"

Instructions = list[tuple[str, str]]


def test_hadolint_finds_nothing() -> None:
    """The linter of Dockerfiles, all rules on."""
    completed = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stdout) == (0, "")


def test_the_last_stage_is_the_server(instructions: Instructions) -> None:
    """What builds does not serve or export, all stages follow the one build argument, and a build without a target
    makes the server."""
    assert values_of(instructions, "FROM") == [
        "${BASE_IMAGE} AS build",
        "${BASE_IMAGE} AS serve",
        "build AS build-export",
        "${BASE_IMAGE} AS export",
        "serve",
    ]
    assert instructions[0] == ("ARG", "BASE_IMAGE=python:3.12-slim-bookworm")


@pytest.mark.parametrize("name", ["serve", "export"])
def test_a_stage_that_is_kept_runs_nothing_at_build_time(instructions: Instructions, name: str) -> None:
    """It only copies: no package manager leaves traces in it."""
    assert not values_of(stage(instructions, name), "RUN")


@pytest.mark.parametrize("name", ["serve", "export"])
def test_the_user_is_the_pods(instructions: Instructions, pod: dict[str, Any], name: str) -> None:
    """A numeric user, which runAsNonRoot can check, and the same as in the manifest."""
    security = pod["securityContext"]
    assert values_of(stage(instructions, name), "USER") == [f"{security['runAsUser']}:{security['runAsGroup']}"]


def test_the_server_gets_signals_itself(instructions: Instructions) -> None:
    """No shell stands between the container and SIGTERM."""
    (entrypoint,) = values_of(stage(instructions, "serve"), "ENTRYPOINT")
    assert json.loads(entrypoint) == ["bertserve"]


def test_a_baked_bundle_is_readable_for_all(instructions: Instructions, tmp_path: Path) -> None:
    """The step that copies it, run here. Root copies and the server is somebody else, so a narrow umask of whoever made
    the bundle must not stick."""
    (bundle := tmp_path / "bundle").mkdir(mode=0o700)
    (bundle / "manifest.json").touch(mode=0o600)
    (step,) = [value for value in values_of(stage(instructions, "build"), "RUN") if "/bundle" in value]
    baked = tmp_path / "baked"
    subprocess.run(["sh", "-c", step.replace("/bundle", str(baked))], env={"BUNDLE": str(bundle)}, check=True)
    assert baked.stat().st_mode & 0o777 == 0o755
    assert (baked / "manifest.json").stat().st_mode & 0o777 == 0o644


def test_exposed_ports_are_those_of_the_pod(instructions: Instructions, container: dict[str, Any]) -> None:
    """Image, manifest and settings agree on the ports."""
    (exposed,) = values_of(instructions, "EXPOSE")
    assert [int(port) for port in exposed.split()] == [port["containerPort"] for port in container["ports"]]


def test_every_variable_is_a_setting(instructions: Instructions) -> None:
    """The image's BERTSERVE_* variables are read by the server; it listens on all of the container's addresses."""
    (environment,) = values_of(stage(instructions, "serve"), "ENV")
    variables = dict(pair.split("=", 1) for pair in environment.split() if pair.startswith("BERTSERVE_"))
    assert set(variables) <= {f"BERTSERVE_{name.upper()}" for name in Settings.model_fields}
    assert variables["BERTSERVE_HOST"] == "0.0.0.0"  # noqa: S104 (in the container)


def test_the_context_is_a_list_of_what_enters() -> None:
    """The .dockerignore excludes all and names what the build needs, so that no secret or cache slips in."""
    first, *rest = (ROOT / ".dockerignore").read_text().splitlines()
    named = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert first == "*"
    # Where a bundle to bake in lies, if there is one.
    assert all((ROOT / name).exists() for name in named - {"bundles"})


def stage(instructions: Instructions, name: str) -> Instructions:
    """The instructions of a stage, its FROM first."""
    starts = [number for number, (instruction, _) in enumerate(instructions) if instruction == "FROM"]
    (first,) = [start for start in starts if instructions[start][1].endswith(f" AS {name}")]
    return instructions[first : next(start for start in starts if start > first)]


def values_of(instructions: Instructions, wanted: str) -> list[str]:
    """Arguments of every instruction of that name, in order."""
    return [arguments for instruction, arguments in instructions if instruction == wanted]
