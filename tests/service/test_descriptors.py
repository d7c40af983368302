"""File descriptors that are used up: the log says so, and the server goes on once some are free."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bertapi.client import BertClient
from servers import PLAIN, RunningServer, running_server

OLD, NEW = "0123456789abcdef", "fedcba9876543210"
MISSING, FREE = "no file descriptor is free", "file descriptors are free again"


def leave_free(server: RunningServer, count: int) -> None:
    """From now on the server may open that many descriptors more."""
    pid = server.process.pid
    limit = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1 + count  # noqa: PTH208
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))


def wait_until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.05)


def messages(server: RunningServer) -> list[str]:
    return [json.loads(line)["message"] for line in server.log]


def says(server: RunningServer, start: str) -> Callable[[], bool]:
    return lambda: any(message.startswith(start) for message in messages(server))


def test_used_up_descriptors_are_said_and_survived(tmp_path: Path) -> None:
    """Once, whichever port is asked. Files that cannot be opened meanwhile have not changed."""
    tokens = tmp_path / "tokens"
    tokens.write_text(OLD)
    with running_server("--tokens", tokens, PLAIN) as server, BertClient(server.target, token=OLD) as client:
        assert client.embed(["cat"])
        leave_free(server, 8)
        ports = [address.rpartition(":") for address in (server.target, server.metrics)]
        held = [socket.create_connection((host, int(port))) for host, _, port in ports for _ in range(20)]
        wait_until(says(server, MISSING))
        tokens.write_text(NEW)
        # Whether a token that was taken out is refused is looked up once a second.
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            assert client.embed(["cat"])
        for connection in held:
            connection.close()
        wait_until(says(server, FREE))
        with BertClient(server.target, token=NEW) as other:
            assert other.embed(["cat"])
        assert server.page("/livez")[0] == 200
        assert server.stop() == 0
    said = messages(server)
    assert sum(message.startswith(MISSING) for message in said) == 1
    assert "files reloaded" in said
    assert not [message for message in said if "cannot be used" in message]


@pytest.mark.parametrize(
    ("soft", "hard", "expected", "is_said"),
    [(100, 5000, 1256, False), (2000, 5000, 2000, False), (100, 1000, 1000, True)],
    ids=["raised", "left alone", "too low"],
)
def test_the_soft_limit_follows_the_bound_on_connections(soft: int, hard: int, expected: int, is_said: bool) -> None:
    """As far as the hard limit lets it; beyond, the log says what is too low."""
    program = (
        "import resource\n"
        "from bertserve.process.descriptors import allow_connections\n"
        "from bertserve.observe.logs import finish_logs, start_logs\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "start_logs('info'); allow_connections(1000); finish_logs(10)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(ended.stdout) == expected
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["limit"], line["needed"]) for line in lines] == ([(1000, 1256)] if is_said else [])
