"""h2load and Locust against real servers, as examples/clients shows them; what they did is counted by the server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_server import ScriptedServer
from servers import RunningServer

from .conftest import EXAMPLES, ROOT, built, run_client, tool, wait_until

pytestmark = pytest.mark.system

Locust = Callable[..., subprocess.CompletedProcess[str]]

REQUESTS = {
    "Embed": '{"inputs": [{"text": "A cat sat here."}]}',
    "FillMask": '{"inputs": [{"text": "The [MASK] sat on the mat"}]}',
    "ScoreNextSentence": '{"first": "It rained.", "candidates": ["We got wet."]}',
}
USERS = 4
# The server counts a call before its user does, who has by his next one at the latest: so more calls than users. Twice
# as many, for calls that other tests left behind.
ENOUGH = 2 * USERS
# How a server counts calls that ended by their deadline: as such where it can tell them from callers who left.
LATE = ("Canceled", "DeadlineExceeded")
NO_MASK = '{"inputs": [{"text": "No word is hidden here"}]}'


@pytest.mark.parametrize(("method", "request_json"), REQUESTS.items(), ids=REQUESTS)
def test_h2load_loads_a_method(method: str, request_json: str, demo_server: RunningServer) -> None:
    """Every request of a framed body is answered, the one before the load and all in it, over connections that each
    hold several."""
    before = handled(demo_server, method, "OK")
    assert "200 2xx" in h2load(demo_server, method, request_json)
    wait_until(lambda: handled(demo_server, method, "OK") - before >= 201)
    assert handled(demo_server, method, "OK") - before == 201


def test_h2load_is_not_started_for_a_request_that_is_refused(demo_server: RunningServer) -> None:
    """To h2load the refusal would be a success; what it says comes through, with the field at fault."""
    before = handled(demo_server, "FillMask", "InvalidArgument")
    refusal, details = refused_load(demo_server.target, "FillMask", NO_MASK)
    assert refusal.startswith("failed: INVALID_ARGUMENT: inputs[0].text: holds no mask; ")
    assert json.loads(details)["details"][0]["fieldViolations"][0]["field"] == "inputs[0].text"
    wait_until(lambda: handled(demo_server, "FillMask", "InvalidArgument") > before)
    assert handled(demo_server, "FillMask", "InvalidArgument") - before == 1


def test_h2load_is_not_started_on_a_full_queue(full_server: RunningServer) -> None:
    """RetryInfo comes through."""
    refusal, details = refused_load(full_server.target, "Embed", REQUESTS["Embed"])
    assert refusal.startswith("failed: RESOURCE_EXHAUSTED: ")
    assert json.loads(details)["details"][0]["retryDelay"].endswith("s")


def test_h2load_is_not_started_where_nothing_serves(scripted_server: ScriptedServer) -> None:
    """By the health protocol."""
    scripted_server.set_serving(False)
    (refusal,) = refused_load(scripted_server.target, "Embed", REQUESTS["Embed"])
    assert refusal == f"failed: {scripted_server.target} is not SERVING"
    assert scripted_server.arrivals == []


def test_h2load_has_deadlines(stalled_server: RunningServer) -> None:
    """By gRPC's own header: the first call ends, though no run does."""
    refusal, *_ = refused_load(stalled_server.target, "Embed", REQUESTS["Embed"], "-H", "grpc-timeout: 1S")
    assert refusal.startswith("failed: DEADLINE_EXCEEDED: ")


def test_locust_counts_each_method(demo_server: RunningServer, locust: Locust) -> None:
    """Users wait for health, then ask; nothing fails."""
    before = {method: handled(demo_server, method, "OK") for method in REQUESTS}
    run = locust(demo_server, until=lambda: all(handled(demo_server, m, "OK") > before[m] + ENOUGH for m in REQUESTS))
    assert run.returncode == 0, run.stderr
    counted = {entry["name"]: entry for entry in json.loads(run.stdout)}
    assert set(counted) == set(REQUESTS)
    assert all(entry["num_requests"] > 0 and entry["num_failures"] == 0 for entry in counted.values())


def test_locust_names_each_failure(full_server: RunningServer, locust: Locust) -> None:
    """An overloaded server makes a failed run, whose table says why."""
    before = handled(full_server, "Embed", "ResourceExhausted")
    run = locust(full_server, until=lambda: handled(full_server, "Embed", "ResourceExhausted") > before + ENOUGH)
    assert run.returncode == 1
    assert re.search(r"OverloadedError\(.RESOURCE_EXHAUSTED: ", run.stderr)


def test_locust_has_deadlines(stalled_server: RunningServer, locust: Locust) -> None:
    """A call that takes too long is a failure, and its user goes on."""
    before = handled(stalled_server, "Embed", *LATE)
    run = locust(stalled_server, until=lambda: handled(stalled_server, "Embed", *LATE) > before + ENOUGH, seconds=0.2)
    assert run.returncode == 1
    assert "DeadlineError('DEADLINE_EXCEEDED: " in run.stderr


@pytest.fixture
def locust(locust_folder: Path) -> Locust:
    """Runs Locust with four users until the server has seen what it should: JSON on stdout, tables on stderr."""

    def run(server: RunningServer, until: Callable[[], bool], seconds: float = 30) -> subprocess.CompletedProcess[str]:
        options = ["--headless", "--users", str(USERS), "--spawn-rate", str(USERS), "--only-summary", "--json"]
        command = [sys.executable, "-m", "locust", "-f", EXAMPLES / "locustfile.py", "--host", server.target, *options]
        environment = {**os.environ, "PYTHONPATH": str(locust_folder), "TIMEOUT_SECONDS": str(seconds)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            while not until() and process.poll() is None:
                time.sleep(0.05)
            process.terminate()
            output, log = process.communicate(timeout=60)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, process.returncode, output, log)

    return run


@pytest.fixture(scope="session")
def locust_folder(pytestconfig: pytest.Config) -> Path:
    """Locust and what it needs, in a folder of its own, kept for the next run."""
    requirements = Path(__file__).parent / "locust.txt"
    folder = pytestconfig.cache.mkdir("locust")  # type: ignore[union-attr]
    stamp = folder / requirements.name
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        built([*command, "--upgrade", "--target", folder, "-c", ROOT / "constraints.txt", "-r", requirements])
        stamp.write_text(requirements.read_text())
    return Path(folder)


def h2load(server: RunningServer, method: str, request_json: str) -> str:
    """What h2load prints of 200 requests."""
    completed = run_load(server.target, method, request_json)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def refused_load(target: str, method: str, request_json: str, *options: str) -> list[str]:
    """The lines that load.sh leaves when it does not start h2load."""
    completed = run_load(target, method, request_json, *options)
    assert completed.returncode == 1
    assert "finished in" not in completed.stdout
    return completed.stderr.splitlines()


def run_load(target: str, method: str, request_json: str, *options: str) -> subprocess.CompletedProcess[str]:
    tool("h2load", "apt-get install nghttp2-client")
    load = ["-n", "200", "-c", "2", "-m", "4", *options]
    return run_client([EXAMPLES / "load.sh", method, request_json, target, *load])


def handled(server: RunningServer, method: str, *codes: str) -> float:
    """How many calls the server has answered with one of these statuses."""
    labels = f'grpc_method="{method}",grpc_service="bertapi.v1.BertService",grpc_type="unary"'
    return sum(server.sample(f'grpc_server_handled_total{{grpc_code="{code}",{labels}}}') for code in codes)
