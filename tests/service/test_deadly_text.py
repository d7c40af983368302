"""A text that ends its server, and how many servers the clients' retries take it to."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from bertapi.client import AsyncBertClient, BertClient
from bertapi.errors import UnavailableError
from servers import PRETRAINING, RunningServer, running_server

PROGRAM = Path(__file__).parents[1] / "deadly_server.py"
DEADLY = "cat " * 100
REPLICAS = 5


def start(stack: ExitStack) -> tuple[list[RunningServer], str]:
    servers = [stack.enter_context(running_server(PRETRAINING, program=PROGRAM)) for _ in range(REPLICAS)]
    return servers, "ipv4:" + ",".join(server.target for server in servers)


def wait_for_ends(servers: list[RunningServer], count: int) -> None:
    """A client hears of a lost connection before the process is gone."""
    ends = time.monotonic() + 60
    while count_ended(servers) < count:
        assert time.monotonic() < ends
        time.sleep(0.01)


def count_ended(servers: list[RunningServer]) -> int:
    return sum(server.process.poll() is not None for server in servers)


async def test_a_text_that_ends_a_server_ends_two_at_most() -> None:
    """With the published service config: one retry, then the client hears of it. The servers left answer on."""
    with ExitStack() as stack:
        servers, target = start(stack)
        with BertClient(target, timeout_seconds=60) as client:
            with pytest.raises(UnavailableError):
                client.embed(DEADLY)
            wait_for_ends(servers, 2)
            assert client.embed("the cat")[0].token_count == 4
        async with AsyncBertClient(target, timeout_seconds=60) as async_client:
            with pytest.raises(UnavailableError):
                await async_client.embed(DEADLY)
            wait_for_ends(servers, 4)
            assert (await async_client.embed("the cat"))[0].token_count == 4
        assert count_ended(servers) == 4
