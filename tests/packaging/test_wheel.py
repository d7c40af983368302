"""The wheel: what a user's `pip install bertserve` would put in place."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CARRIED = [
    "bertapi/v1/bert_service.proto",
    "bertapi/v1/bert_service_pb2_grpc.pyi",
    "bertapi/oip/inference.proto",
    "bertapi/service_config.json",
    "bertapi/py.typed",
    "bertserve/py.typed",
    "bertexport/py.typed",
    "bertbench/py.typed",
    "bertserve/__main__.py",
    "bertserve/demo/manifest.json",
    "bertserve/demo/model.onnx",
    "bertserve/demo/tokenizer.json",
    "bertserve/demo/golden.npz",
]


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


def test_only_the_components_packages_are_installed(wheel: zipfile.ZipFile, pyproject: dict) -> None:
    """Nothing at the top level but the packages that pyproject.toml names, and the metadata."""
    packages = {Path(path).name for path in pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages


@pytest.mark.parametrize("name", CARRIED)
def test_what_code_reads_at_run_time_is_carried(wheel: zipfile.ZipFile, name: str) -> None:
    """The API's files, the type markers and the demo model are package data."""
    assert name in wheel.namelist()


def test_nothing_generated_by_running_is_carried(wheel: zipfile.ZipFile) -> None:
    """Neither compiled files nor caches nor tests."""
    parts = {part for name in wheel.namelist() for part in name.split("/")}
    assert not [part for part in parts if part in {"__pycache__", "tests"} or part.startswith("test_")]


def test_the_commands_are_installed(wheel: zipfile.ZipFile, pyproject: dict) -> None:
    """Every command of pyproject.toml points into a module of the wheel."""
    for target in pyproject["project"]["scripts"].values():
        module, _, _ = target.partition(":")
        assert module.replace(".", "/") + ".py" in wheel.namelist()


def test_the_licenses_travel_along(wheel: zipfile.ZipFile, pyproject: dict) -> None:
    """The programs' and the demo model's, as files and in the metadata."""
    (folder,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert "\nLicense-Expression: MIT AND CC-BY-SA-3.0\n" in metadata
    for name in pyproject["project"]["license-files"]:
        assert wheel.read(f"{folder}/licenses/{name}") == (ROOT / name).read_bytes()
