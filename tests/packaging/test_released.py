"""What 0.1.0 promised: its clients call today's server, today's clients call its server, and its bundles are served.

0.1.0 is built from its commit. It runs with the libraries of this environment, ahead of today's packages on the path.
"""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any

import bertapi.client
import pytest
from bertapi.v1 import bert_service_pb2
from servers import RunningServer, running_server

pytestmark = pytest.mark.slow

BUNDLES = ("pretraining", "classifier", "plain", "tagger")
# Fields of answers that today's client knows and 0.1.0's did not.
LATER_FIELDS = {"score", "loaded_bytes", "longest_text_bytes"}


@pytest.fixture(scope="session")
def path_of_released(released_wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which Python imports the packages of 0.1.0."""
    folder = tmp_path_factory.mktemp("released-packages")
    released_wheel.extractall(folder)
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="session")
def released_bundles(released_tree: Path) -> list[str]:
    """The bundles that 0.1.0 wrote, as arguments of the server."""
    bundles = [str(released_tree / "tests" / "bundles" / name) for name in BUNDLES]
    return [*bundles, f"demo={released_tree / 'service' / 'bertserve' / 'demo'}"]


@pytest.fixture(scope="session")
def released_server(path_of_released: dict[str, str], released_bundles: list[str]) -> Iterator[RunningServer]:
    with running_server(*released_bundles, "--open-inference", environment=path_of_released) as running:
        yield running


@pytest.fixture(scope="session")
def server_of_today(released_bundles: list[str]) -> Iterator[RunningServer]:
    with running_server(*released_bundles, "--open-inference") as running:
        yield running


@pytest.fixture(scope="session")
def expected(released_server: RunningServer, path_of_released: dict[str, str]) -> dict[str, Any]:
    """What the client of 0.1.0 makes of the answers of the server of 0.1.0."""
    return call_everything(released_server, path_of_released)


def test_every_method_is_called(expected: dict[str, Any]) -> None:
    """A method that joins the API has to be added to every_call.py, where 0.1.0 has it."""
    methods = {method.name for method in bert_service_pb2.DESCRIPTOR.services_by_name["BertService"].methods}
    assert methods <= expected.keys()


def test_a_client_of_0_1_0_reads_the_same_from_todays_server(
    expected: dict[str, Any], server_of_today: RunningServer, path_of_released: dict[str, str]
) -> None:
    """Every method, a stream, refusals, health and the Open Inference Protocol; numbers to the bit."""
    assert call_everything(server_of_today, path_of_released) == expected


def test_todays_client_reads_the_same_from_a_server_of_0_1_0(
    expected: dict[str, Any], released_server: RunningServer
) -> None:
    """The same. Fields that the server does not know are zero."""
    answers = call_everything(released_server, {})
    assert without_later_fields(answers) == expected
    assert later_values(answers) == {0}


def test_todays_client_reads_the_same_from_todays_server(
    expected: dict[str, Any], server_of_today: RunningServer
) -> None:
    """A bundle that 0.1.0 wrote gives today what it gave then."""
    answers = call_everything(server_of_today, {})
    assert without_later_fields(answers) == expected
    assert later_values(answers) != {0}


@pytest.mark.parametrize("command", ["info", "fill", "tokenize"])
def test_bertcall_of_0_1_0_prints_todays_answers(
    server_of_today: RunningServer, path_of_released: dict[str, str], command: str
) -> None:
    """On a terminal, with tables."""
    texts = [] if command == "info" else ["it [MASK] here ."]
    arguments = ["-c", "from bertapi.command import main; main()", command, *texts, "--target", server_of_today.target]
    assert run(*arguments, variables=path_of_released).strip()


def test_every_program_and_extra_of_0_1_0_is_still_there(
    released_wheel: zipfile.ZipFile, wheel_files: dict[str, Path]
) -> None:
    """In one of the three distributions; the extras in bertserve."""
    today = {name: zipfile.ZipFile(file) for name, file in wheel_files.items()}
    assert programs_in(released_wheel) <= set().union(*map(programs_in, today.values()))
    assert extras_in(released_wheel) <= extras_in(today["bertserve"])


def test_every_name_of_the_client_of_0_1_0_is_still_there(released_wheel: zipfile.ZipFile) -> None:
    """What its users import from bertapi.client."""
    assert names_in(released_wheel.read("bertapi/client.py").decode()) <= set(bertapi.client.__all__)


@pytest.mark.parametrize("program", ["bertserve.__main__", "bertapi.command"], ids=["the server's", "bertcall's"])
def test_every_flag_of_0_1_0_is_still_there(path_of_released: dict[str, str], program: str) -> None:
    """Else a unit file or a manifest of 0.1.0 would no longer start the server."""
    arguments = ["-c", f"from {program} import main; main()", "--help"]
    before, now = (
        set(re.findall(r"--[a-z][a-z-]+", run(*arguments, variables=each))) for each in (path_of_released, {})
    )
    assert "--help" in before
    assert before <= now


def call_everything(server: RunningServer, variables: dict[str, str]) -> dict[str, Any]:
    """The answers of every_call.py, run with these variables and so with the bertapi that they put on the path."""
    printed = json.loads(run(str(Path(__file__).with_name("every_call.py")), server.target, variables=variables))
    package = Path(variables["PYTHONPATH"], "bertapi") if variables else Path(bertapi.__file__).parent
    assert Path(printed["bertapi"]).parent == package
    answers: dict[str, Any] = printed["answers"]
    return answers


def without_later_fields(answer: Any) -> Any:
    """What 0.1.0 knew of an answer."""
    if isinstance(answer, dict):
        return {name: without_later_fields(each) for name, each in answer.items() if name not in LATER_FIELDS}
    return [without_later_fields(each) for each in answer] if isinstance(answer, list) else answer


def later_values(answer: Any) -> set[Any]:
    """The values of the fields that 0.1.0 did not know."""
    if isinstance(answer, dict):
        inner = [{each} if name in LATER_FIELDS else later_values(each) for name, each in answer.items()]
        return set().union(*inner)
    return set().union(*map(later_values, answer)) if isinstance(answer, list) else set()


def programs_in(wheel: zipfile.ZipFile) -> set[str]:
    points = configparser.ConfigParser()
    points.read_string(wheel.read(metadata_file(wheel, "entry_points.txt")).decode())
    return set(points["console_scripts"])


def extras_in(wheel: zipfile.ZipFile) -> set[str]:
    return set(Parser().parsestr(wheel.read(metadata_file(wheel, "METADATA")).decode()).get_all("Provides-Extra", []))


def metadata_file(wheel: zipfile.ZipFile, name: str) -> str:
    (found,) = (each for each in wheel.namelist() if each.endswith(f".dist-info/{name}"))
    return found


def names_in(module: str) -> set[str]:
    """The value of `__all__` in a module's source."""
    (assigned,) = (
        node.value
        for node in ast.parse(module).body
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
    )
    return set(ast.literal_eval(assigned))


def run(*arguments: str, variables: dict[str, str]) -> str:
    """What Python prints with these arguments and variables; fails with what it said."""
    completed = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout
