"""`bertbench floods`: what its figures count, what its clients send, and a small real run."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertbench.errors import BenchError
from bertbench.floods.attacks import EMBED, make_floods
from bertbench.floods.caller import Calls, count_calls, gather_calls
from bertbench.floods.command import read_servers
from bertbench.floods.http2 import Connection, ConnectionEnded, prefixed
from bertbench.floods.measure import FloodRun, find_largest_request, merge_rounds
from servers import PRETRAINING, RunningServer

pytestmark = pytest.mark.export

NONE = Calls(seconds=(), failed=0)


def test_a_call_without_an_answer_counts_as_endless() -> None:
    """Nearest rank: each percentile is a time that a call really took."""
    calls = count_calls([0.3, 0.1, math.inf, 0.2])
    assert calls == Calls(seconds=(0.1, 0.2, 0.3), failed=1)
    assert [calls.percentile(share) for share in (0.5, 0.75, 0.99)] == [0.2, 0.3, math.inf]
    assert math.isnan(NONE.percentile(0.5))


def test_rounds_are_merged_by_flood_and_server() -> None:
    """The median of the peaks, and all calls together."""
    calls = [count_calls([second]) for second in (0.3, 0.1, 0.2)]
    runs = [
        FloodRun(server=server, flood="large", peak_bytes=peak, alone=NONE, flooded=each, newcomers=NONE)
        for server in ("a", "b")
        for peak, each in zip((30, 10, 20), calls, strict=True)
    ]
    merged = merge_rounds(runs)
    assert [(run.server, run.peak_bytes, run.flooded) for run in merged] == [
        ("a", 20, gather_calls(calls)), ("b", 20, gather_calls(calls)),
    ]  # fmt: skip
    assert merged[0].flooded.seconds == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("size", [4 * 2**20, 16 * 2**20])
def test_the_largest_requests_are_almost_as_large_as_allowed(size: int) -> None:
    """Within the server's limit, of whatever size it is; the first five bytes are gRPC's."""
    texts, empty = make_floods(size, 2)[:2]
    for flood in (texts, empty):
        assert 0.98 * size < len(flood.content) - 5 <= size
    assert len(pb.EmbedRequest.FromString(texts.content[5:]).inputs) == 1000


@pytest.mark.parametrize("words", [["a"], ["=python"], ["a="], ["a=x", "a=y"]])
def test_servers_have_a_name_and_a_python_each(words: list[str]) -> None:
    """Anything else is refused in one line."""
    with pytest.raises(BenchError, match="NAME=PYTHON"):
        read_servers(words)


def test_the_servers_own_limit_is_found(server: RunningServer) -> None:
    """As gRPC states it."""
    assert find_largest_request(server.target) == 4 * 2**20


async def test_a_request_larger_than_the_first_window_comes_whole(server: RunningServer) -> None:
    """The connection keeps to the server's flow control; the call ends, and others follow it."""
    connection = await Connection.open(server.target)
    request = pb.EmbedRequest(inputs=[pb.TextInput(text="cat")], model="x" * 300_000).SerializeToString()
    for _ in range(2):
        number = connection.begin(EMBED)
        await connection.send(number, prefixed(request), is_last=True)
        await asyncio.wait_for(connection.wait_end(number), 60)
    await connection.close()


async def test_a_call_of_which_nothing_comes_stays_open(server: RunningServer) -> None:
    """Until the connection ends, which ends all its calls."""
    connection = await Connection.open(server.target)
    stalled, whole = connection.begin(EMBED), connection.begin(EMBED)
    await connection.send(whole, prefixed(b""), is_last=True)
    await asyncio.wait_for(connection.wait_end(whole), 60)
    ended = asyncio.ensure_future(connection.wait_end(stalled))
    await connection.close()
    with pytest.raises(ConnectionEnded):
        await asyncio.wait_for(ended, 60)
    with pytest.raises(ConnectionEnded):
        connection.begin(EMBED)


@pytest.mark.slow
def test_floods_come_from_one_command(tmp_path: Path) -> None:
    """A table, and JSON with every flood for each of two servers."""
    file = tmp_path / "floods.json"
    command = [sys.executable, "-m", "bertbench", "floods", str(PRETRAINING), "--seconds", "0.5", "--json", str(file)]
    servers = [word for name in "ab" for word in ("--server", f"{name}={sys.executable}")]
    done = subprocess.run([*command, *servers], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "newcomer p50" in done.stdout
    figures = json.loads(file.read_text())
    assert figures["machine"]["cores"] >= 1
    assert sorted(run["server"] for run in figures["floods"]) == ["a"] * 5 + ["b"] * 5
    assert all(run["peak_bytes"] >= 0 for run in figures["floods"])
