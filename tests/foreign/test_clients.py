"""examples/clients, run as a user would: four languages say the same of every answer and of every refusal."""

from __future__ import annotations

import re
import subprocess

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from scripted_server import ScriptedServer
from servers import RunningServer

from .conftest import EXAMPLES, Run, run_client

pytestmark = pytest.mark.system

SPREADING = ["python_client", "go_client", "node_client"]
HEALTH_CHECKING = ["python_client", "go_client"]


def test_each_client_prints_what_the_readme_shows(client: Run, demo_server: RunningServer) -> None:
    """Health, Embed, FillMask, ScoreNextSentence, and the field at fault of a BadRequest."""
    completed = client(demo_server.target)
    assert (completed.stderr, completed.returncode) == ("", 0)
    assert completed.stdout in (EXAMPLES / "README.md").read_text()


def test_a_deadline_that_passes_is_said(client: Run, stalled_server: RunningServer) -> None:
    """The call ends after its time, though the server has no answer."""
    assert failure_of(client(stalled_server.target, 0.5)).startswith("DEADLINE_EXCEEDED: ")


def test_an_overloaded_server_says_when_to_try_again(client: Run, full_server: RunningServer) -> None:
    """RetryInfo comes through."""
    assert re.fullmatch(r"RESOURCE_EXHAUSTED: .*; try again in [\d.]+ s", failure_of(client(full_server.target)))


def test_a_server_that_is_not_there_is_said(client: Run) -> None:
    """By its status, like every other failure."""
    assert re.match("(UNAVAILABLE|DEADLINE_EXCEEDED): ", failure_of(client("127.0.0.1:1", 2)))


@pytest.mark.parametrize("seconds", ["soon", "0"])
def test_a_time_that_is_none_is_wrong_usage(client: Run, seconds: str) -> None:
    """Said at once, whatever the language's own clock would make of it."""
    completed = client("127.0.0.1:1", seconds)
    assert completed.returncode == 2
    assert completed.stderr.startswith("usage: client")


@pytest.mark.parametrize("name", SPREADING)
def test_the_service_config_makes_the_client_retry(
    name: str, request: pytest.FixtureRequest, scripted_server: ScriptedServer
) -> None:
    """A replica that is UNAVAILABLE goes unnoticed; another refusal is not asked for again."""
    command = request.getfixturevalue(name)
    vectors = pb.Tensor(shape=[1], type=pb.VECTOR_TYPE_FLOAT32, data=b"\0\0\x80\x3f")
    embedded = pb.EmbedResponse(embeddings=[pb.Embedding(vectors=vectors)] * 2)
    unavailable = scripted_server.failure(grpc.StatusCode.UNAVAILABLE)
    refusal = scripted_server.failure(grpc.StatusCode.FAILED_PRECONDITION, "no such head")
    scripted_server.answers += [unavailable, embedded, refusal]
    assert failure_of(run_client([*command, scripted_server.target])) == "FAILED_PRECONDITION: no such head"
    assert [type(arrival.request) for arrival in scripted_server.arrivals] == [pb.EmbedRequest] * 2 + [
        pb.FillMaskRequest
    ]


@pytest.mark.parametrize("name", HEALTH_CHECKING)
def test_the_service_config_keeps_the_client_from_a_server_that_does_not_serve(
    name: str, request: pytest.FixtureRequest, scripted_server: ScriptedServer
) -> None:
    """The channel watches health: no call arrives. (grpc-js has no such watch.)"""
    command = request.getfixturevalue(name)
    scripted_server.set_serving(False)
    failure = failure_of(run_client([*command, scripted_server.target, "0.5"]))
    assert re.match("(UNAVAILABLE|DEADLINE_EXCEEDED): ", failure)
    assert scripted_server.arrivals == []


def failure_of(completed: subprocess.CompletedProcess[str]) -> str:
    """The line that a client leaves when it fails, without its first word."""
    assert completed.returncode == 1, completed.stdout + completed.stderr
    (line,) = completed.stderr.splitlines()
    word, _, failure = line.partition(" ")
    assert word == "failed:"
    return failure
