"""The wheels of client and server in an environment that holds nothing else: it installs, serves and is called."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TORCH_AND_COMPANY = ["torch", "transformers", "onnx", "safetensors", "sentencepiece"]


@pytest.fixture(scope="module")
def programs(wheel_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment into which the wheels were installed, with what CI pins."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False)
    wheels = wheel_files["bertapi"], wheel_files["bertserve"]
    pip(environment, "install", "--no-compile", "--constraint", ROOT / "constraints.txt", *wheels)
    return environment / "bin"


@pytest.fixture(scope="module")
def target(programs: Path) -> Iterator[str]:
    """HOST:PORT of the installed server, with its demo model."""
    process = subprocess.Popen(
        [programs / "bertserve", "--port", "0", "--metrics-port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        ready = process.stdout.readline()  # type: ignore[union-attr]
        assert ready.startswith("ready: grpc ")
        yield ready.split()[2]
    finally:
        process.kill()
        process.communicate()


def test_what_is_installed_fits_together(programs: Path) -> None:
    """No requirement of any package is missing or of another version."""
    assert pip(programs.parent, "check").strip() == "No broken requirements found."


def test_the_server_brings_no_training_library(programs: Path) -> None:
    """Nothing that exporting alone needs came along."""
    code = f"import importlib.util as u; print([name for name in {TORCH_AND_COMPANY} if u.find_spec(name)])"
    assert run(programs / "python", "-c", code).strip() == "[]"


def test_the_installed_programs_work_together(programs: Path, target: str) -> None:
    """One call by bertcall to bertserve, both from the wheel."""
    assert run(programs / "bertcall", "fill", "The [MASK] sat on the mat", "--target", target).startswith("mask 1")


def test_a_program_whose_extra_is_missing_says_so(programs: Path) -> None:
    """One line that names the extra, in place of a traceback."""
    completed = subprocess.run([programs / "bertexport", "--help"], capture_output=True, text=True, check=False)
    assert completed.returncode == 1
    (line,) = completed.stderr.splitlines()
    assert line.startswith("bertexport: ")
    assert line.endswith(" is missing: pip install 'bertserve[export]'")


def test_the_server_brings_no_benchmarks(programs: Path) -> None:
    """bertbench is a distribution of its own."""
    assert not (programs / "bertbench").exists()
    assert (
        run(programs / "python", "-c", "import importlib.util as u; print(u.find_spec('bertbench'))").strip() == "None"
    )


def pip(environment: Path, *arguments: str | Path) -> str:
    """This environment's pip at work on another one, which needs none of its own then."""
    return run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        environment / "bin" / "python",
        "--disable-pip-version-check",
        *arguments,
    )


def run(*command: str | Path) -> str:
    """What a program prints; fails with what it said."""
    completed = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=240)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout
