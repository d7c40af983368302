"""The Makefile's promises to whoever has just cloned the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What `make` needs to set up an environment.
NEEDED = ["Makefile", "constraints.txt", "pyproject.toml", "proto/pyproject.toml", "benchmarks/pyproject.toml"]

PYTHON_WITHOUT_VENV = f"""#!/bin/sh
case "$*" in *ensurepip*) exit 1 ;; esac
exec {sys.executable} "$@"
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with no more than `make` needs to start."""
    for name in NEEDED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("", "bertserve needs Python 3.11 or newer"),
        ("bin/python3", "bin/python3 cannot make a virtual environment: sudo apt-get install python3-venv"),
    ],
    ids=["no Python", "Debian's Python without venv"],
)
def test_a_missing_prerequisite_is_named(clone: Path, python: str, message: str) -> None:
    """One line says what to install, and no half-made environment stays behind."""
    (clone / "bin").mkdir()
    (clone / "bin" / "python3").write_text(PYTHON_WITHOUT_VENV)
    (clone / "bin" / "python3").chmod(0o755)
    completed = make(clone, "run", f"PYTHON={python}")
    assert completed.returncode != 0
    assert completed.stderr.splitlines()[0].startswith(message)
    assert not (clone / ".venv-serve").exists()


def test_an_environment_is_made_once(clone: Path) -> None:
    """A stamp newer than the requirements means nothing to do; touching the pins means the environment is due again."""
    (clone / ".venv-serve").mkdir()
    (clone / ".venv-serve" / "installed").touch()
    assert make(clone, "--question", ".venv-serve/installed").returncode == 0
    later = (clone / ".venv-serve" / "installed").stat().st_mtime + 10
    os.utime(clone / "constraints.txt", (later, later))
    assert make(clone, "--question", ".venv-serve/installed").returncode == 1


@pytest.mark.parametrize(
    ("environment", "constraints"),
    [
        (".venv-serve", "constraints.txt"),
        (".venv-lowest", ".venv-lowest/floors.txt"),
        (".venv-newest", "/dev/null"),
    ],
    ids=["pinned", "lowest", "newest"],
)
def test_an_environment_has_its_versions(clone: Path, environment: str, constraints: str) -> None:
    """What CI pins, the floors, or what pip finds newest, whatever the user's own settings of pip constrain."""
    (clone / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "floors.py", clone / ".ci")
    plan = make(clone, "--dry-run", f"{environment}/installed").stdout
    assert re.findall(r"PIP_CONSTRAINT=(\S+)", plan) == [constraints]


def test_help_names_every_target(clone: Path) -> None:
    """Every target that a person may call has its line."""
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (clone / "Makefile").read_text(), flags=re.MULTILINE)
    described = [line.split()[1] for line in make(clone, "help").stdout.splitlines()]
    assert sorted(described) == sorted(phony.split())


def make(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make as a person would, whatever make runs the tests."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["make", *arguments], cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
