"""The source distribution: what whoever builds from source gets."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from .conftest import build

pytestmark = pytest.mark.slow

CARRIED = [
    "LICENSE",
    "LICENSE.demo-model",
    "CHANGELOG.md",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
    "proto/bertapi/v1/bert_service.proto",
    "service/bertserve/demo/model.onnx",
]
CARRIED_FOLDERS = {"proto", "service", "export", "benchmarks"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that an sdist of this one unpacks to."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", Path(__file__).parents[2], folder)) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = (path for path in folder.iterdir() if path.is_dir())
    return tree


@pytest.mark.parametrize("name", CARRIED)
def test_what_building_and_sharing_need_is_carried(unpacked: Path, name: str) -> None:
    """Licenses, contract, demo model, pins."""
    assert (unpacked / name).is_file()


def test_nothing_but_the_components_is_carried(unpacked: Path) -> None:
    """No tests, examples or data; neither caches nor environments."""
    assert {path.name for path in unpacked.iterdir() if path.is_dir()} == CARRIED_FOLDERS
    assert not [path for path in unpacked.rglob("*") if "__pycache__" in path.parts]


def test_it_builds_the_same_wheel(unpacked: Path, wheel_file: Path, tmp_path: Path) -> None:
    """To the byte."""
    built = build("wheel", unpacked, tmp_path)
    assert (built.name, built.read_bytes()) == (wheel_file.name, wheel_file.read_bytes())
