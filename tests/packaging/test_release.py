"""What a release says of itself, and what it may not do to callers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FIELD = "optional string text_pair = 2;"


@pytest.fixture(scope="module")
def headings() -> list[str]:
    """The second-level headings of CHANGELOG.md, from the top."""
    return re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_the_changelog_has_a_place_for_what_is_not_released(headings: list[str]) -> None:
    """Above all versions."""
    assert headings[0] == "[Unreleased]"


def test_the_changelog_ends_at_this_version(headings: list[str], pyproject: dict[str, Any]) -> None:
    """The newest version in CHANGELOG.md is pyproject.toml's; each has its day, and none comes before an older one."""
    released = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in headings[1:]]
    assert all(released)
    versions = [tuple(map(int, match.groups()[:3])) for match in released if match]
    days = [date.fromisoformat(match[4]) for match in released if match]
    assert ".".join(map(str, versions[0])) == pyproject["project"]["version"]
    assert (versions, days) == (sorted(versions, reverse=True), sorted(days, reverse=True))


def test_what_is_deployed_is_this_version(pyproject: dict[str, Any], tracked_texts: dict[str, str]) -> None:
    """Every tag of our images in deploy/: a manifest left behind would start the last release, and nothing would say
    so."""
    tag = re.compile(r"(?:\bbert(?:serve|export):|newTag: )(\d+\.\d+\.\d+)")
    tags = {name: tag.findall(text) for name, text in tracked_texts.items() if name.startswith("deploy/")}
    assert tags["deploy/base/deployment.yaml"]
    assert {found for all_found in tags.values() for found in all_found} == {pyproject["project"]["version"]}


@pytest.mark.parametrize(
    ("change", "keeps"),
    [("optional string text_pair = 2;\n  bool lower = 4;", True), ("optional bytes text_pair = 2;", False)],
    ids=["a new field", "another type"],
)
def test_a_change_of_the_api_is_compared_with_the_last_release(tmp_path: Path, change: str, keeps: bool) -> None:
    """`make proto-breaking` takes what callers cannot notice, and stops at what would break them."""
    clone = released_clone(tmp_path)
    contract = clone / "proto" / "bertapi" / "v1" / "bert_service.proto"
    contract.write_text(contract.read_text().replace(FIELD, change))
    completed = make_proto_breaking(clone)
    assert (completed.returncode == 0) == keeps
    assert ("the API keeps what v0.1.0 promised" in completed.stdout) == keeps
    assert ("text_pair" in completed.stdout + completed.stderr) != keeps


def test_before_the_first_release_nothing_is_promised(tmp_path: Path) -> None:
    """No tag to compare with is said, and no failure."""
    completed = make_proto_breaking(released_clone(tmp_path, tag=""))
    assert (completed.returncode, completed.stdout) == (0, "no release to compare with: no tag v* in this clone\n")


def released_clone(folder: Path, tag: str = "v0.1.0") -> Path:
    """A git repository of the contract as it is now, tagged as a release, in which `make` finds its environment."""
    shutil.copytree(ROOT / "proto", folder / "proto", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "buf.yaml", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    steps = [["init", "--quiet"], ["add", "proto", "buf.yaml"], ["commit", "--quiet", "-m", "Release"]]
    for step in [*steps, *([["tag", tag]] if tag else [])]:
        subprocess.run([*git, *step], check=True, capture_output=True)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (folder / ".venv" / "installed").touch()
    return folder


def make_proto_breaking(clone: Path) -> subprocess.CompletedProcess[str]:
    """As a person would, whatever make runs the tests."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(clone), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["make", "proto-breaking"], cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
