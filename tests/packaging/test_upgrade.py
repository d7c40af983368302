"""From the one wheel of 0.1.0 to three distributions, by the commands of the documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT
from .environments import Environment

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.export]

README = (ROOT / "README.md").read_text(encoding="utf-8")
RELEASING = (ROOT / "RELEASING.md").read_text(encoding="utf-8")
RESTORE = "pip install --force-reinstall --no-deps"


@pytest.fixture
def upgraded(environment: Environment, released_wheel_file: Path) -> Environment:
    """An environment that holds 0.1.0. It is this one's libraries that it finds, whatever 0.1.0 asks for."""
    environment.check(f"pip install --no-deps {released_wheel_file}")
    assert "bertcall" in environment.check("bertcall --help")
    return environment


def commands(document: str, first: str) -> str:
    """The command in a document that begins so. Fails if there are several, or none."""
    (found,) = set(re.findall(rf"`({re.escape(first)}[^`]*)`", document))
    return str(found)


@pytest.mark.parametrize(
    ("document", "install"),
    [(README, 'pip install ./proto ".[export]"'), (RELEASING, "pip install bertserve==X.Y.Z")],
    ids=["in a clone", "by name"],
)
def test_everything_works_after_the_documented_upgrade(
    upgraded: Environment, projects: dict[str, Any], document: str, install: str
) -> None:
    """The client in Python and on the command line, the server, and the export."""
    assert install in document
    upgraded.check(commands(document, "pip uninstall"))
    upgraded.check(install.replace("X.Y.Z", projects["bertserve"]["project"]["version"]))
    assert_everything_works(upgraded)


def test_the_benchmarks_are_still_there_after_the_upgrade(upgraded: Environment) -> None:
    """0.1.0 had them in an extra. The extra has the same name, and brings the third distribution."""
    upgraded.check(commands(README, "pip uninstall"))
    upgraded.check("pip install 'bertserve[export,bench]'")
    assert_everything_works(upgraded)
    assert "Usage" in upgraded.check("bertbench --help")


def test_an_upgrade_over_0_1_0_says_what_to_do(upgraded: Environment) -> None:
    """pip succeeds, and the client is gone. The server says so in one line."""
    upgraded.check("pip install ./proto .")
    completed = upgraded.run("bertserve --help")
    assert completed.returncode == 1
    (line,) = completed.stderr.splitlines()
    assert line.startswith("bertserve: files of bertapi are missing")


@pytest.mark.parametrize("source", ["README.md", "RELEASING.md", "the server, in a clone", "the server"])
def test_what_an_upgrade_over_0_1_0_loses_is_restored(upgraded: Environment, source: str) -> None:
    """By each command that is documented for it, and by those that the server's own message names."""
    upgraded.check("pip install ./proto '.[export]'")
    said = upgraded.run("bertserve").stderr
    (in_clone,) = re.findall(r"in a clone: (pip install .*)\)", said)
    (by_name,) = re.findall(rf"{RESTORE} \w+", said)
    restores = {
        "README.md": commands(README, RESTORE),
        "RELEASING.md": commands(RELEASING, RESTORE),
        "the server, in a clone": in_clone,
        "the server": by_name,
    }
    upgraded.check(restores[source])
    assert_everything_works(upgraded)


def assert_everything_works(environment: Environment) -> None:
    """bertserve and bertcall with each other, the client from Python, and bertexport."""
    with environment.server() as target:
        printed = environment.check(f'bertcall fill "The [MASK] sat on the mat" --target {target}')
        assert printed.startswith("mask 1")
        program = f"from bertapi.client import BertClient; print(BertClient('{target}').embed('A cat.').matrix.shape)"
        assert environment.check(f'python -c "{program}"').strip() == "(1, 192)"
    assert "Usage" in environment.check("bertexport --help")
