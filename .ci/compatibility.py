"""Installs the client beside other people's libraries, and client and server under every Python, and calls a server.

    python3 .ci/compatibility.py [--python PATH …] [--document FILE]

Renews the two tables of docs/compatibility.md. Needs Python 3.11 or newer with its venv module, this clone, and an
index for pip. Takes about ten minutes, and 3 GB of a temporary folder. --python names an interpreter to try besides
those of the PATH. Exits with 1 if anything was not as it should be; the tables then say what.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
MINUTES_FOR_PIP = 15


@dataclass(frozen=True)
class Library:
    """What an application may use besides bertapi. requirement: as pip takes it; module: what users of it import."""

    requirement: str
    module: str


LIBRARIES = (
    Library("tritonclient[grpc]", "tritonclient.grpc"),
    Library("kserve", "kserve"),
    Library("tensorflow-cpu", "tensorflow"),
    Library("opentelemetry-exporter-otlp", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"),
    Library("google-cloud-storage", "google.cloud.storage"),
)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# Imports what its arguments name, in their order, and calls the server.
CALL = """
import importlib, sys
target, *modules = sys.argv[1:]
for module in modules:
    importlib.import_module(module)
from bertapi.client import BertClient
with BertClient(target) as client:
    print("answer", client.embed("A cat sat here.").matrix.shape)
"""
ANSWER = "answer (1, 192)"


@dataclass(frozen=True)
class LibraryRow:
    """What came of one library: a cell of its table for every field, in the table's order."""

    library: str
    version: str
    protobuf: str
    grpcio: str
    pip_check: str
    call_answered: str
    date: str


@dataclass(frozen=True)
class PythonRow:
    """What came of one version of Python: a cell of its table for every field, in the table's order."""

    python: str
    wheels_of_all_requirements: str
    interpreter: str
    pip_check: str
    call_answered: str
    date: str


class CommandError(Exception):
    """A command failed; the message is the last line that it wrote."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], help="an interpreter to try as well")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "compatibility.md")
    arguments = parser.parse_args()
    text = arguments.document.read_text(encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory(prefix="compatibility-") as folder:
            libraries, pythons = try_all(find_interpreters([sys.executable, *arguments.python]), Path(folder))
    except CommandError as error:
        sys.exit(f"nothing could be tried: {error}")
    for rows in (libraries, pythons):
        text = replace_table(text, table_of(rows))
    arguments.document.write_text(text, encoding="utf-8")
    bad = [row for row in (*libraries, *pythons) if "no" in {cell.split(":")[0] for cell in astuple(row)}]
    sys.exit(1 if bad else 0)


def try_all(interpreters: dict[str, str], folder: Path) -> tuple[list[LibraryRow], list[PythonRow]]:
    """The rows of both tables. Raises CommandError if not even the server and the wheels can be made."""
    environment = create_environment(sys.executable, folder / "server", "./proto", ".")
    with running_server(environment) as target:
        libraries = [try_library(library, target, folder) for library in LIBRARIES]
    wheels = build_wheels(environment, folder)
    return libraries, [try_python(version, interpreters.get(version), wheels, folder) for version in PYTHONS]


def try_library(library: Library, target: str, folder: Path) -> LibraryRow:
    """Installs client and library together, checks what pip chose, imports either first, and calls the server."""
    say(f"the client beside {library.requirement}")
    name = library.requirement.partition("[")[0]
    try:
        environment = create_environment(sys.executable, folder / name, "./proto", library.requirement)
    except CommandError as error:
        return LibraryRow(library.requirement, f"no: {error}", "", "", "", "", today())
    versions = installed_versions(environment)
    modules = (library.module, "bertapi.client")
    answers = {answer_of(environment, target, *order) for order in (modules, modules[::-1])}
    row = LibraryRow(
        library=library.requirement,
        version=versions[name],
        protobuf=versions["protobuf"],
        grpcio=versions["grpcio"],
        pip_check=verdict_of_check(environment),
        call_answered="yes" if answers == {"yes"} else min(answers),
        date=today(),
    )
    shutil.rmtree(environment)
    return row


def try_python(version: str, interpreter: str | None, wheels: list[str], folder: Path) -> PythonRow:
    """Looks for wheels of what client and server require; where there is an interpreter, installs both and calls."""
    say(f"client and server under Python {version}")
    options = ("--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--python-version", version)
    try:
        run(sys.executable, *PIP, "install", *options, "--target", str(folder / "unused"), *wheels)
        found = "yes"
    except CommandError as error:
        found = f"no: {error}"
    if interpreter is None:
        return PythonRow(version, found, "none at hand", "", "", today())
    full_version = run(interpreter, "-c", "import platform; print(platform.python_version())")
    try:
        environment = create_environment(interpreter, folder / f"python{version}", *wheels)
        with running_server(environment) as target:
            answer = answer_of(environment, target, "bertapi.client")
    except CommandError as error:
        return PythonRow(version, found, full_version, "", f"no: {error}", today())
    return PythonRow(version, found, full_version, verdict_of_check(environment), answer, today())


def find_interpreters(further: list[str]) -> dict[str, str]:
    """Version, such as 3.12, → an interpreter that runs: one of `further`, else one of the PATH."""
    found: dict[str, str] = {}
    for program in (*further, *(f"python{version}" for version in PYTHONS)):
        with contextlib.suppress(CommandError, OSError):
            version = run(program, "-c", "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])")
            found.setdefault(version, program)
    return found


def create_environment(interpreter: str, environment: Path, *requirements: str) -> Path:
    """A virtual environment with the requirements, which pip chooses at once. Raises CommandError."""
    run(interpreter, "-m", "venv", str(environment))
    run(python_of(environment), *PIP, "install", "--quiet", "--no-compile", *requirements)
    return environment


def build_wheels(environment: Path, folder: Path) -> list[str]:
    """The files of the client's and the server's wheel."""
    built = folder / "wheels"
    run(python_of(environment), *PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), "./proto", ".")
    return sorted(str(file) for file in built.iterdir())


@contextlib.contextmanager
def running_server(environment: Path) -> Iterator[str]:
    """HOST:PORT of the environment's server with its demo model; killed at the end of the block."""
    command = [str(environment / "bin" / "bertserve"), "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603
        try:
            ready = process.stdout.readline() if process.stdout else ""
            if not ready.startswith("ready: grpc "):
                raise CommandError("bertserve did not become ready")
            yield ready.split()[2]
        finally:
            process.kill()


def answer_of(environment: Path, target: str, *modules: str) -> str:
    """`yes` if a program that imports these modules gets the vector that it asks for, else `no` and why."""
    try:
        printed = run(python_of(environment), "-c", CALL, target, *modules)
    except CommandError as error:
        return f"no: {error}"
    return "yes" if printed.endswith(ANSWER) else f"no: {printed[-80:]}"


def verdict_of_check(environment: Path) -> str:
    """`clean` if `pip check` finds nothing, else `no` and its last line."""
    try:
        run(python_of(environment), *PIP, "check")
    except CommandError as error:
        return f"no: {error}"
    return "clean"


def installed_versions(environment: Path) -> dict[str, str]:
    """Canonical name → version of every distribution in the environment."""
    listed = json.loads(run(python_of(environment), *PIP, "list", "--format", "json"))
    return {re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"] for each in listed}


def python_of(environment: Path) -> str:
    return str(environment / "bin" / "python")


def run(*command: str) -> str:
    """What a command prints, stripped. It runs in the clone. Raises CommandError; OSError if there is no program."""
    try:
        completed = subprocess.run(  # noqa: S603 - the commands are this file's own
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60 * MINUTES_FOR_PIP
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"no end after {MINUTES_FOR_PIP} minutes") from None
    if completed.returncode:
        lines = (completed.stderr.strip() or completed.stdout.strip() or "no word of why").splitlines()
        raise CommandError(next((line for line in lines if line.startswith("ERROR: ")), lines[-1])[:200])
    return completed.stdout.strip()


def table_of(rows: list[LibraryRow] | list[PythonRow]) -> list[str]:
    """The lines of a Markdown table with a column for every field of the rows."""
    names = [field.replace("_", " ") for field in rows[0].__dataclass_fields__]
    cells = [names, ["---"] * len(names), *(astuple(row) for row in rows)]
    return ["| " + " | ".join(cell.replace("|", "\\|") or "–" for cell in line) + " |" for line in cells]


def replace_table(text: str, table: list[str]) -> str:
    """The text with this table in place of the one that has the same first line. Raises ValueError if it has none."""
    lines = text.splitlines()
    start = lines.index(table[0])
    end = next((at for at in range(start, len(lines)) if not lines[at].startswith("|")), len(lines))
    return "\n".join([*lines[:start], *table, *lines[end:]]) + "\n"


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def say(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    main()
