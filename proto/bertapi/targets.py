"""What a gRPC target names: this machine or another one, and whether the environment's HTTP proxy stands between."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import unquote

ADDRESS_SCHEMES = ("ipv4", "ipv6")
SOCKET_SCHEMES = ("unix", "unix-abstract", "vsock")
SCHEMES = ("dns", *ADDRESS_SCHEMES, *SOCKET_SCHEMES)
LOCAL_NAMES = ("localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback")

# gRPC takes the first that is set, even an empty one, and knows no spelling in capitals (core/handshaker/http_connect).
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
DIRECT_VARIABLES = ("no_grpc_proxy", "no_proxy")


def is_local(target: str) -> bool:
    """Whether every address of a target is of this machine, however it is spelled."""
    scheme, hosts = _parse(target)
    return scheme in SOCKET_SCHEMES or all(_is_local_host(host) for host in hosts)


def find_proxy(target: str, environment: Mapping[str, str]) -> str:
    """The variable whose HTTP proxy gRPC calls in place of the target; empty if it calls the target itself."""
    variable = next((name for name in PROXY_VARIABLES if name in environment), "")
    if is_local(target) or not environment.get(variable, "").lower().startswith("http://"):
        return ""
    direct = next((environment[name] for name in DIRECT_VARIABLES if name in environment), "")
    entries = [entry.strip() for entry in direct.split(",") if entry.strip()]
    hosts = _parse(target)[1]
    return "" if any(_covers(entry, hosts[0]) for entry in entries) else variable


def _parse(target: str) -> tuple[str, list[str]]:
    """The scheme, and the hosts without their ports. A target without a scheme that gRPC knows is a name."""
    scheme, colon, rest = target.partition(":")
    if not colon or scheme.lower() not in SCHEMES:
        return "dns", [_host(target.rpartition("/")[2])]
    endpoints = unquote(rest if not rest.startswith("//") else rest[2:].partition("/")[2]).lstrip("/")
    scheme = scheme.lower()
    return scheme, [
        _host(endpoint) for endpoint in (endpoints.split(",") if scheme in ADDRESS_SCHEMES else [endpoints])
    ]


def _host(endpoint: str) -> str:
    """`[::1]:50051` → `::1`. More than one colon without brackets is an IPv6 address without a port."""
    if endpoint.startswith("["):
        return endpoint[1:].partition("]")[0]
    return endpoint if endpoint.count(":") > 1 else endpoint.partition(":")[0]


def _is_local_host(host: str) -> bool:
    name = host.lower().removesuffix(".")
    address = _address(name)
    if address is None:
        return name in LOCAL_NAMES or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Also of the short forms that a resolver takes, such as `127.1`; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of no_proxy, a suffix of names or a range of addresses, covers a host."""
    if host.lower().endswith(entry.lower()):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
