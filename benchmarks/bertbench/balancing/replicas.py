"""Replicas as pods are: each with an address of its own, and all with the same ports."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

from bertbench.ports import free_network
from bertbench.serving.server_process import ServerProcess, started

# One each: there are more replicas than cores.
LANES = 1


@dataclass(frozen=True, slots=True)
class Replica:
    """A server of the demo model at an address of loopback, on the default ports."""

    address: str
    server: ServerProcess

    def answered(self) -> int:
        """Calls answered so far, by its own count."""
        return round(self.server.sample().sum("grpc_server_handled_total", grpc_method="Embed", grpc_code="OK"))

    def kill(self) -> None:
        """As the kernel does when memory is out: connections break, calls under way are lost."""
        os.kill(self.server.process_id, signal.SIGKILL)
        self.wait()

    def drain(self) -> None:
        """As the kubelet does after preStop; returns when the process has ended."""
        os.kill(self.server.process_id, signal.SIGTERM)
        self.wait()

    def wait(self) -> None:
        """Until the process has ended. Whoever started it still collects its status."""
        os.waitid(os.P_PID, self.server.process_id, os.WEXITED | os.WNOWAIT)


class Replicas:
    """All that run. Addresses are never used twice."""

    def __init__(self, stack: ExitStack, flags: Sequence[str]) -> None:
        self._stack = stack
        self._flags = flags
        self._network = free_network()
        self._hosts = count(1)
        self.running: list[Replica] = []

    @property
    def addresses(self) -> list[str]:
        return [replica.address for replica in self.running]

    def start(self, number: int = 1) -> list[Replica]:
        """So many new ones, side by side; they are ready. Raises BenchError."""
        hosts = [next(self._hosts) for _ in range(number)]
        with ThreadPoolExecutor(number) as pool:
            new = list(pool.map(self._start_one, hosts))
        self.running += new
        return new

    def _start_one(self, host: int) -> Replica:
        address = f"{self._network}.{host}"
        command = [sys.executable, "-m", "bertserve", "--host", address, "--lanes", str(LANES), *self._flags]
        return Replica(address, self._stack.enter_context(started([*command, "--log-level", "error"])))
