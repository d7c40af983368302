"""A text that ends its replica, sent through each proxy with its example configuration."""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from bertapi.client import BertClient
from bertapi.errors import UnavailableError
from bertbench.balancing.names import find_dnsmasq, serving_names
from bertbench.balancing.proxies import ProxyKind, find_program, proxying
from bertbench.errors import BenchError
from bertbench.ports import free_network
from bertbench.serving.server_process import ServerProcess, started

from .conftest import DEPLOY

pytestmark = [pytest.mark.system, pytest.mark.export]

PROGRAM = Path(__file__).parents[1] / "deadly_server.py"
DEADLY = "cat " * 100
REPLICAS = 4


@pytest.mark.parametrize("kind", ProxyKind)
def test_a_text_that_ends_a_replica_ends_two_at_most(kind: ProxyKind) -> None:
    """The proxy and the published service config retry once between them. The replicas that are left answer on."""
    try:
        find_dnsmasq()
        find_program(kind)
    except BenchError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        network = free_network()
        addresses = [f"{network}.{host}" for host in range(1, REPLICAS + 1)]
        with ThreadPoolExecutor(REPLICAS) as pool:
            replicas = list(pool.map(lambda address: start(stack, address), addresses))
        names = stack.enter_context(serving_names(folder, addresses))
        proxy = stack.enter_context(proxying(kind, DEPLOY / "proxies", folder, names.address, addresses))
        with BertClient(proxy.target, timeout_seconds=60) as client:
            client.wait_ready(60)
            wait_for_answer(client)
            with pytest.raises(UnavailableError):
                client.embed(DEADLY)
            wait_for_answer(client)
        ended = sum(replica.launch.process.poll() is not None for replica in replicas)
        assert 1 <= ended <= 2
        for replica in replicas:
            replica.launch.process.kill()


def start(stack: ExitStack, address: str) -> ServerProcess:
    command = [sys.executable, str(PROGRAM), "--host", address, "--lanes", "1", "--log-level", "error"]
    return stack.enter_context(started(command))


def wait_for_answer(client: BertClient) -> None:
    """A proxy needs a moment to know its replicas, and which of them are gone."""
    ends = time.monotonic() + 60
    while True:
        try:
            assert client.embed("the cat")[0].token_count == 4
        except UnavailableError:
            assert time.monotonic() < ends
            time.sleep(0.1)
        else:
            return
