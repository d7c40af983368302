"""What the project says of itself in pyproject.toml, and what git holds."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from .environments import Environment, create_environment, lend

ROOT = Path(__file__).parents[2]

# Distribution → the folder of its pyproject.toml.
FOLDERS = {"bertapi": ROOT / "proto", "bertserve": ROOT, "bertbench": ROOT / "benchmarks"}

# What 0.1.0 was released from.
RELEASED_COMMIT = "748d381"


@pytest.fixture(scope="session")
def pyproject() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def tracked_texts() -> dict[str, str]:
    """Path → content of every text file that git tracks or would track."""
    # The caller may not own the clone, which git otherwise refuses to read.
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, capture_output=True, cwd=ROOT, text=True, check=False)
    if listing.returncode:
        pytest.skip(f"not a git clone, so what it tracks is unknown: {listing.stderr.strip()}")
    texts = {}
    for name in filter(None, listing.stdout.split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in content[:8192]:
            texts[name] = content.decode("utf-8")
    return texts


@pytest.fixture(scope="session")
def projects() -> dict[str, dict[str, Any]]:
    """Distribution → its parsed pyproject.toml."""
    return {name: tomllib.loads((folder / "pyproject.toml").read_text()) for name, folder in FOLDERS.items()}


@pytest.fixture(scope="session")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distribution → its wheel, built by the project's own build backend without a network. All lie in one folder."""
    folder = tmp_path_factory.mktemp("wheels")
    return {name: build("wheel", name, FOLDERS[name], folder) for name in FOLDERS}


@pytest.fixture(scope="session")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to what others made of all that is installed here."""
    folder = tmp_path_factory.mktemp("lent")
    lend(folder, leave_out=FOLDERS)
    return folder


@pytest.fixture
def environment(tmp_path: Path, wheel_files: dict[str, Path], lent: Path) -> Environment:
    """An environment that has what others made, and finds our wheels by name. Its commands run in the clone."""
    return create_environment(tmp_path / "environment", ROOT, wheel_files["bertapi"].parent, lent)


@pytest.fixture(scope="session")
def released_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree of 0.1.0."""
    command = ["git", "-c", "safe.directory=*", "archive", RELEASED_COMMIT]
    archived = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if archived.returncode:
        pytest.skip(
            f"NOT TESTED AGAINST 0.1.0, its commit {RELEASED_COMMIT} is not in this clone: {archived.stderr.decode()}"
        )
    tree = tmp_path_factory.mktemp("released")
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(tree, filter="data")
    return tree


@pytest.fixture(scope="session")
def released_wheel_file(released_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one wheel of 0.1.0: server, export, client and benchmarks."""
    return build("wheel", "bertserve", released_tree, tmp_path_factory.mktemp("released-wheel"))


@pytest.fixture(scope="session")
def released_wheel(released_wheel_file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(released_wheel_file)


def build(kind: str, name: str, source: Path, folder: Path) -> Path:
    """Builds a `wheel` or an `sdist` of a distribution's source tree into a folder; returns its file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", folder]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (file,) = folder.glob(f"{name}-*")
    return file
