"""The wheels: what a user's `pip install` would put in place."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from .conftest import FOLDERS

CARRIED = {
    "bertapi": [
        "bertapi/v1/bert_service.proto",
        "bertapi/v1/bert_service_pb2_grpc.pyi",
        "bertapi/oip/inference.proto",
        "bertapi/service_config.json",
        "bertapi/py.typed",
    ],
    "bertserve": [
        "bertserve/py.typed",
        "bertexport/py.typed",
        "bertserve/__main__.py",
        "bertserve/demo/manifest.json",
        "bertserve/demo/model.onnx",
        "bertserve/demo/tokenizer.json",
        "bertserve/demo/golden.npz",
    ],
    "bertbench": ["bertbench/py.typed", "bertbench/__main__.py"],
}
LICENSES = {"bertapi": "MIT", "bertserve": "MIT AND CC-BY-SA-3.0", "bertbench": "MIT"}

pytestmark = pytest.mark.parametrize("distribution", FOLDERS)


@pytest.fixture
def wheel(wheel_files: dict[str, Path], distribution: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_files[distribution])


@pytest.fixture
def project(projects: dict[str, Any], distribution: str) -> dict[str, Any]:
    return projects[distribution]


def test_only_the_components_packages_are_installed(wheel: zipfile.ZipFile, project: dict) -> None:
    """Nothing at the top level but the packages that pyproject.toml names, and the metadata."""
    packages = {Path(path).name for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages


def test_what_code_reads_at_run_time_is_carried(wheel: zipfile.ZipFile, distribution: str) -> None:
    """The API's files, the type markers and the demo model are package data."""
    assert set(CARRIED[distribution]) <= set(wheel.namelist())


def test_no_file_belongs_to_two_distributions(wheel_files: dict[str, Path], distribution: str) -> None:
    """Else pip would delete a file of one with the other."""
    own = set(zipfile.ZipFile(wheel_files[distribution]).namelist())
    for other in FOLDERS.keys() - {distribution}:
        assert not own & set(zipfile.ZipFile(wheel_files[other]).namelist())


def test_nothing_generated_by_running_is_carried(wheel: zipfile.ZipFile) -> None:
    """Neither compiled files nor caches nor tests."""
    parts = {part for name in wheel.namelist() for part in name.split("/")}
    assert not [part for part in parts if part in {"__pycache__", "tests"} or part.startswith("test_")]


def test_the_commands_are_installed(wheel: zipfile.ZipFile, project: dict) -> None:
    """Every command of pyproject.toml points into a module of the wheel."""
    for target in project["project"]["scripts"].values():
        module, _, _ = target.partition(":")
        assert module.replace(".", "/") + ".py" in wheel.namelist()


def test_the_licenses_travel_along(wheel: zipfile.ZipFile, project: dict, distribution: str) -> None:
    """The programs' and the demo model's, as files and in the metadata; each is the text at the top of the clone."""
    (folder,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert f"\nLicense-Expression: {LICENSES[distribution]}\n" in metadata
    for name in project["project"]["license-files"]:
        assert wheel.read(f"{folder}/licenses/{name}") == (FOLDERS["bertserve"] / name).read_bytes()
