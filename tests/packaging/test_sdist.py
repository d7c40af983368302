"""The source distributions: what whoever builds from source gets."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from .conftest import FOLDERS, build

pytestmark = pytest.mark.slow

CARRIED = {
    "bertapi": ["LICENSE", "README.md", "pyproject.toml", "bertapi/v1/bert_service.proto"],
    "bertserve": [
        "LICENSE",
        "LICENSE.demo-model",
        "CHANGELOG.md",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
        "service/bertserve/demo/model.onnx",
    ],
    "bertbench": ["LICENSE", "README.md", "pyproject.toml"],
}
CARRIED_FOLDERS = {"bertapi": {"bertapi"}, "bertserve": {"service", "export"}, "bertbench": {"bertbench"}}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distribution → the tree that its sdist unpacks to."""
    trees = {}
    for name, source in FOLDERS.items():
        folder = tmp_path_factory.mktemp(name)
        with tarfile.open(build("sdist", name, source, folder)) as archive:
            archive.extractall(folder, filter="data")
        (trees[name],) = (path for path in folder.iterdir() if path.is_dir())
    return trees


@pytest.mark.parametrize("distribution", FOLDERS)
def test_what_building_and_sharing_need_is_carried(unpacked: dict[str, Path], distribution: str) -> None:
    """Licenses, contract, demo model, pins."""
    assert not [name for name in CARRIED[distribution] if not (unpacked[distribution] / name).is_file()]


@pytest.mark.parametrize("distribution", FOLDERS)
def test_nothing_but_the_components_is_carried(unpacked: dict[str, Path], distribution: str) -> None:
    """No tests, examples or data; neither caches nor environments."""
    tree = unpacked[distribution]
    assert {path.name for path in tree.iterdir() if path.is_dir()} == CARRIED_FOLDERS[distribution]
    assert not [path for path in tree.rglob("*") if "__pycache__" in path.parts]


@pytest.mark.parametrize("distribution", FOLDERS)
def test_it_builds_the_same_wheel(
    unpacked: dict[str, Path], wheel_files: dict[str, Path], distribution: str, tmp_path: Path
) -> None:
    """To the byte."""
    built = build("wheel", distribution, unpacked[distribution], tmp_path)
    wheel_file = wheel_files[distribution]
    assert (built.name, built.read_bytes()) == (wheel_file.name, wheel_file.read_bytes())
