"""docs/compatibility.md: what the client was installed beside, and the program that tries it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

DOCUMENT = ROOT / "docs" / "compatibility.md"
LIBRARIES = [
    "tritonclient[grpc]",
    "kserve",
    "tensorflow-cpu",
    "opentelemetry-exporter-otlp",
    "google-cloud-storage",
]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def rows_of(document: Path, column: str) -> list[dict[str, str]]:
    """The rows of the table whose first column has this name: column → cell."""
    (table,) = re.findall(rf"^\| {column} \|.*\n(?:\|.*\n)+", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    return [dict(zip(names, row, strict=True)) for row in rows]


def assert_all_fits(document: Path) -> None:
    """Every library and every version of Python has its row, and none a failure."""
    libraries, pythons = rows_of(document, "library"), rows_of(document, "python")
    assert [row["library"] for row in libraries] == LIBRARIES
    assert [row["python"] for row in pythons] == PYTHONS
    assert {(row["pip check"], row["call answered"]) for row in libraries} == {("clean", "yes")}
    assert {row["wheels of all requirements"] for row in pythons} == {"yes"}
    tried = [row for row in pythons if row["interpreter"] != "none at hand"]
    assert tried
    assert {(row["pip check"], row["call answered"]) for row in tried} == {("clean", "yes")}


def test_the_tables_are_whole() -> None:
    assert_all_fits(DOCUMENT)


@pytest.mark.slow
def test_tables_stay_as_they_are_where_nothing_could_be_tried(tmp_path: Path) -> None:
    """One line says why. Here pip has no index."""
    document = tmp_path / DOCUMENT.name
    shutil.copy(DOCUMENT, document)
    command = [sys.executable, ROOT / ".ci" / "compatibility.py", "--document", document]
    variables = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    completed = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert completed.returncode == 1
    assert completed.stderr.splitlines()[-1].startswith("nothing could be tried: ")
    assert document.read_bytes() == DOCUMENT.read_bytes()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_client_fits_beside_what_others_use_today(tmp_path: Path) -> None:
    """Runs the program that writes the tables, on a copy of the document. Needs an index, and takes ten minutes."""
    document = tmp_path / DOCUMENT.name
    shutil.copy(DOCUMENT, document)
    command = [sys.executable, ROOT / ".ci" / "compatibility.py", "--document", document]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, document.read_text(encoding="utf-8") + completed.stderr
    assert_all_fits(document)
