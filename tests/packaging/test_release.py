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


def test_the_distributions_have_one_version(projects: dict[str, Any]) -> None:
    """They move together, and each needs at least this version of the others."""
    (version,) = {project["project"]["version"] for project in projects.values()}
    for project in projects.values():
        extras = project["project"].get("optional-dependencies", {})
        for requirement in [*project["project"]["dependencies"], *extras.get("bench", [])]:
            name, _, floor = requirement.partition(">=")
            assert name not in projects or floor == version


def test_what_is_deployed_is_this_version(pyproject: dict[str, Any], tracked_texts: dict[str, str]) -> None:
    """Every tag of our images in deploy/: a manifest left behind would start the last release, and nothing would say
    so."""
    tag = re.compile(r"(?:\bbert(?:serve|export):|newTag: )(\d+\.\d+\.\d+)")
    tags = {name: tag.findall(text) for name, text in tracked_texts.items() if name.startswith("deploy/")}
    assert tags["deploy/base/deployment.yaml"]
    assert {found for all_found in tags.values() for found in all_found} == {pyproject["project"]["version"]}


@pytest.mark.parametrize(
    ("change", "keeps"),
    [(FIELD, True), (f"{FIELD}\n  bool lower = 999;", True), ("optional bytes text_pair = 2;", False)],
    ids=["nothing", "a new field", "another type"],
)
def test_a_change_of_the_api_is_compared_with_what_was_promised(tmp_path: Path, change: str, keeps: bool) -> None:
    """`make proto-breaking` takes what callers cannot notice, and stops at what would break them."""
    contract = clone_of_the_contract(tmp_path) / "proto" / "bertapi" / "v1" / "bert_service.proto"
    contract.write_text(contract.read_text().replace(FIELD, change))
    completed = make_proto_breaking(tmp_path)
    assert (completed.returncode == 0) == keeps
    assert ("the API keeps what proto/promise.binpb promises" in completed.stdout) == keeps
    assert ("text_pair" in completed.stdout + completed.stderr) != keeps


def test_a_missing_promise_fails(tmp_path: Path) -> None:
    """An API that is compared with nothing would seem to keep its promises."""
    (clone_of_the_contract(tmp_path) / "proto" / "promise.binpb").unlink()
    completed = make_proto_breaking(tmp_path)
    assert completed.returncode != 0
    assert completed.stderr.startswith("proto/promise.binpb is missing")


def test_the_promise_is_checked_before_every_commit() -> None:
    """`make check` runs the comparison among the rules, and so does CI."""
    makefile = (ROOT / "Makefile").read_text()
    needed = {name: re.findall(rf"^{name}: (.*?) ##", makefile, flags=re.MULTILINE) for name in ("check", "rules")}
    assert "rules" in needed["check"][0].split()
    assert "proto-breaking" in needed["rules"][0].split()
    assert "make rules" in (ROOT / ".ci" / "run").read_text()


def clone_of_the_contract(folder: Path) -> Path:
    """A folder of the contract and what was promised, in which `make` finds its environment."""
    shutil.copytree(ROOT / "proto", folder / "proto", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "buf.yaml", "pyproject.toml", "constraints.txt", "benchmarks/pyproject.toml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
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
