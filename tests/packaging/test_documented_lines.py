"""The `pip install` lines of the documents, run as they stand there.

Lines of our own distributions are run in full, each in an environment of its own, to which this one lends what others
made, because torch would cost minutes each time. `test_install.py` and `.ci/compatibility.py` download everything.
Lines of other people's distributions are dry runs: they ask an index for versions that can be had together.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import FOLDERS, ROOT
from .environments import Environment

DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "RELEASING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
    ROOT / "examples" / "README.md",
    *(folder / "README.md" for folder in FOLDERS.values()),
)
LINES = sorted({line for each in DOCUMENTS for line in re.findall(r"pip install [^`\n]+", each.read_text("utf-8"))})
IN_THE_CLONE = {"./proto": "bertapi", ".": "bertserve", "./benchmarks": "bertbench"}
# A flag that repairs alone have: tests/packaging/test_upgrade.py runs them where there is something to repair.
REPAIR = "--force-reinstall"


def distributions_in(line: str) -> list[str]:
    """What a line names, in its order: the name of the distribution, also of one that is named by its folder."""
    words = [word for word in shlex.split(line)[2:] if not word.startswith("-")]
    names = [re.split(r"[\[=<>]", word)[0] for word in words]
    return [IN_THE_CLONE.get(name, name) for name in names]


OURS = [line for line in LINES if REPAIR not in line and set(distributions_in(line)) <= FOLDERS.keys()]
OTHERS = [line for line in LINES if not set(distributions_in(line)) & FOLDERS.keys()]


def marked(line: str) -> Any:
    """Lines of the export and of the benchmarks need the torch that is lent."""
    needs_torch = "export" in line or "bertbench" in distributions_in(line)
    return pytest.param(line, marks=[pytest.mark.export] if needs_torch else [], id=line)


def test_every_line_is_run_by_a_test() -> None:
    """None names both our distributions and others', and the documents have lines of either kind."""
    repairs = [line for line in LINES if REPAIR in line]
    assert {*OURS, *OTHERS, *repairs} == set(LINES)
    assert OURS
    assert OTHERS


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("line", [marked(line) for line in OURS])
def test_a_line_installs_what_it_names(environment: Environment, projects: dict[str, Any], line: str) -> None:
    """All that it names has this version afterwards, and its programs start."""
    version = projects["bertserve"]["project"]["version"]
    environment.check(line.replace("X.Y.Z", version), asks_index=" -e " in line)
    for name in distributions_in(line):
        assert f"\nVersion: {version}\n" in environment.check(f"pip show {name}")
        programs = projects[name]["project"]["scripts"].keys() - (set() if "export" in line else {"bertexport"})
        for program in programs:
            assert "usage" in environment.check(f"{program} --help").lower()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)  # where the index has no metadata apart, pip downloads torch for its own
@pytest.mark.parametrize("line", OTHERS)
def test_what_a_line_of_others_names_can_be_had(tmp_path: Path, line: str) -> None:
    """pip finds versions that fit together. Nothing is installed."""
    words = shlex.split(line)[2:]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    flags = ["--quiet", "--dry-run", "--ignore-installed", "--target", tmp_path]
    completed = subprocess.run([*pip, "install", *flags, *words], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
