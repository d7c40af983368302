"""What the project says of itself in pyproject.toml, and what git holds."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# Distribution → the folder of its pyproject.toml.
FOLDERS = {"bertapi": ROOT / "proto", "bertserve": ROOT, "bertbench": ROOT / "benchmarks"}


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


def build(kind: str, name: str, source: Path, folder: Path) -> Path:
    """Builds a `wheel` or an `sdist` of a distribution's source tree into a folder; returns its file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", folder]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (file,) = folder.glob(f"{name}-*")
    return file
