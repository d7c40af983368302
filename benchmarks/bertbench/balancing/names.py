"""A name server for the replicas' one name, as a headless Service has one: dnsmasq, over a file of addresses."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertbench.errors import BenchError
from bertbench.ports import free_port
from bertbench.serving.server_process import launched

SERVICE_NAME = "bertserve.default.svc.cluster.local"
TTL_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NameServer:
    """address: HOST:PORT, UDP and TCP."""

    address: str
    hosts: Path
    process: subprocess.Popen[str]

    def publish(self, addresses: Sequence[str]) -> None:
        """The name has these addresses from now on; whoever asked before may believe otherwise for TTL_SECONDS."""
        _write(self.hosts, addresses)
        self.process.send_signal(signal.SIGHUP)


def find_dnsmasq() -> str:
    """Its path. Raises BenchError where it is not installed."""
    program = shutil.which("dnsmasq") or shutil.which("dnsmasq", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise BenchError("dnsmasq is missing, which stands in for the cluster's DNS: apt-get install dnsmasq-base")
    return program


@contextlib.contextmanager
def serving_names(folder: Path, addresses: Sequence[str]) -> Iterator[NameServer]:
    """A name server on a free port of loopback. Raises BenchError where dnsmasq is missing."""
    program = find_dnsmasq()
    port, hosts = free_port(), folder / "hosts"
    _write(hosts, addresses)
    command = [
        program, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", f"--user={getpass.getuser()}",
        f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts",
        f"--addn-hosts={hosts}", f"--local-ttl={TTL_SECONDS}",
    ]  # fmt: skip
    with launched(command, {}) as launch:
        yield NameServer(address=f"127.0.0.1:{port}", hosts=hosts, process=launch.process)


def _write(hosts: Path, addresses: Sequence[str]) -> None:
    hosts.write_text("".join(f"{address} {SERVICE_NAME}\n" for address in addresses), encoding="utf-8")
