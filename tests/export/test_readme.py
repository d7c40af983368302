"""The README's commands, run as they stand there: a newcomer pastes them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from servers import READY, RunningServer

from .conftest import RunCommand
from .hub import serve_hub

pytestmark = pytest.mark.export

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", README, flags=re.MULTILINE)
CALLS = [command for command in COMMANDS if command.startswith("bertcall ")]
EXPORTS = [command for command in COMMANDS if command.startswith("bertexport ")]
SERVES = [command for command in COMMANDS if command.startswith("bertserve ")]
# Command → the lines that the README shows beneath it, empty ones and the footer with its times left out.
SHOWN = {
    command: [line for line in output.splitlines() if line]
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", block, flags=re.MULTILINE)
    if output.strip()
}
# Run by .ci/run, on a machine without them.
SETUPS = {
    "make run",
    "make test",
    "python3 -m venv .venv-export && . .venv-export/bin/activate",
    'pip install ./proto ".[export]"',
}

SCRIPTS = Path(sys.executable).parent


def test_every_command_is_run_by_a_test() -> None:
    """A command of another kind needs a test of its own."""
    assert set(COMMANDS) == {*CALLS, *EXPORTS, *SERVES} | SETUPS


@pytest.mark.parametrize("command", CALLS)
def test_call(demo_server: RunningServer, command: str, tmp_path: Path) -> None:
    """Each call answers, on the demo model, in a folder with a corpus."""
    (tmp_path / "corpus.txt").write_text("A cat sat here.\nA dog lay there.\n")
    arguments = [*shlex.split(command)[1:], "--target", demo_server.target]
    ended = subprocess.run(
        [SCRIPTS / "bertcall", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip()
    shown = SHOWN.get(command)
    assert shown is None or [line for line in ended.stdout.splitlines() if line][:-1] == shown


def test_answers_are_shown() -> None:
    """The seed example, a masked word, and a true and a false next sentence."""
    assert {command.split()[1] for command in SHOWN} == {"analyze", "fill", "nsp"}


def test_exports_and_server(
    reach_hub: Callable[[str], None], call_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the exports write, the servers serve: in a folder with `my-bert`, from a hub with bert-base-uncased."""
    checkpoint = write_checkpoint(tmp_path / "my-bert")
    monkeypatch.chdir(tmp_path)
    with serve_hub({"google-bert/bert-base-uncased": checkpoint}) as (endpoint, _):
        reach_hub(endpoint)
        for command in EXPORTS:
            result = call_command(*shlex.split(command)[1:])
            assert result.returncode == 0, result.stderr
    for command in SERVES:
        arguments = [SCRIPTS / "bertserve", *shlex.split(command)[1:], "--port", "0", "--metrics-port", "0"]
        with subprocess.Popen(
            arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server:
            try:
                assert READY.fullmatch(server.stdout.readline())  # type: ignore[union-attr]
            finally:
                server.terminate()
            assert server.wait(timeout=60) == 0


def test_python_examples(demo_server: RunningServer, tmp_path: Path) -> None:
    """The first prints a shape; the second a similarity, three words and a probability; the third a line for every line
    of a file."""
    (tmp_path / "corpus.txt").write_text("A cat sat here.\nA dog lay there.\n", encoding="utf-8")
    printed = []
    scripts = [script for script in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "bertapi" in script]
    for script in scripts:
        arguments = [sys.executable, "-c", script.replace("127.0.0.1:50051", demo_server.target)]
        ended = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        printed.append(ended.stdout.splitlines())
    assert [len(lines) for lines in printed] == [1, 3, 2]
    assert not any("error" in line.lower() for lines in printed for line in lines)
