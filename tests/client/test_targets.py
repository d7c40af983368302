"""Which targets are of this machine, and what becomes of a call where the environment names an HTTP proxy."""

import contextlib
import socket
import threading

import pytest
from bertapi.client import AsyncBertClient, BertClient, UnavailableError
from bertapi.targets import find_proxy, is_local
from bertapi.v1 import bert_service_pb2 as pb

LOCAL = [
    "localhost:50051",
    "localhost",
    "LOCALHOST:50051",
    "localhost.:50051",
    "bert.localhost:50051",
    "localhost.localdomain:50051",
    "ip6-localhost:50051",
    "127.0.0.1:50051",
    "127.0.0.1",
    "127.8.9.10:50051",
    "127.1:50051",
    "0.0.0.0:50051",
    "[::1]:50051",
    "[::1]",
    "::1",
    "[::]:50051",
    "[::ffff:127.0.0.1]:50051",
    "ipv4:127.0.0.1:50051",
    "IPV4:127.0.0.1:50051",
    "ipv4:///127.0.0.1:50051",
    "ipv4:127.0.0.1:50051,127.0.0.2:50052",
    "ipv6:[::1]:50051",
    "ipv6:%5B::1%5D:50051",
    "dns:localhost:50051",
    "dns:///localhost:50051",
    "dns:///[::1]:50051",
    "dns://8.8.8.8/localhost:50051",
    "DNS:///LocalHost:50051",
    "unix:/run/bertserve.sock",
    "unix:///run/bertserve.sock",
    "unix:bertserve.sock",
    "unix-abstract:bertserve",
]
ELSEWHERE = [
    "bertserve:50051",
    "dns:///bertserve:50051",
    "dns:///localhost.example.com:50051",
    "dns://127.0.0.1/bertserve:50051",
    "localhosts:50051",
    "127.example.com:50051",
    "10.0.0.1:50051",
    "ipv4:10.0.0.1:50051",
    "ipv4:127.0.0.1:50051,10.0.0.1:50051",
    "ipv6:[2001:db8::1]:50051",
    "xds:///bertserve",
    ":50051",
]
PROXY = "http://proxy:3128"


@pytest.mark.parametrize("target", LOCAL)
def test_a_target_of_this_machine_is_known_in_every_spelling(target):
    """A proxy could not reach it, or would reach itself."""
    assert is_local(target)


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_target_elsewhere_is_not_taken_for_this_machine(target):
    """The environment's proxy may be the only way there."""
    assert not is_local(target)


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, ""),
        ({"http_proxy": PROXY}, "http_proxy"),
        ({"http_proxy": PROXY, "https_proxy": PROXY}, "https_proxy"),
        ({"http_proxy": PROXY, "https_proxy": PROXY, "grpc_proxy": PROXY}, "grpc_proxy"),
        ({"http_proxy": PROXY, "grpc_proxy": ""}, ""),
        ({"HTTP_PROXY": PROXY}, ""),
        ({"http_proxy": "socks5://proxy:1080"}, ""),
        ({"http_proxy": PROXY, "no_proxy": "other, .example.com"}, ""),
        ({"http_proxy": PROXY, "no_proxy": "other"}, "http_proxy"),
        ({"http_proxy": PROXY, "no_proxy": ".example.com", "no_grpc_proxy": "other"}, "http_proxy"),
    ],
)
def test_the_variable_whose_proxy_is_used_is_found_as_grpc_finds_it(environment, variable):
    """grpc_proxy before https_proxy before http_proxy, unless no_grpc_proxy or no_proxy covers the name."""
    assert find_proxy("dns:///bert.example.com:50051", environment) == variable


def test_a_range_of_addresses_is_called_without_the_proxy():
    """no_proxy may hold networks."""
    environment = {"http_proxy": PROXY, "no_proxy": "10.0.0.0/8"}
    assert find_proxy("10.1.2.3:50051", environment) == ""
    assert find_proxy("11.1.2.3:50051", environment) == "http_proxy"


@contextlib.contextmanager
def refusing_proxy(monkeypatch):
    """An HTTP proxy in the environment that lets nobody through; yields the requests that it saw."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        seen.append(connection.recv(4096).decode())
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        for name in ("grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("form", ["LOCALHOST:{}", "ipv4:127.0.0.1:{}", "dns:///127.0.0.1:{}", "0.0.0.0:{}"])
def test_a_server_of_this_machine_is_called_without_the_proxy(scripted_server, monkeypatch, form):
    """Whatever the environment says."""
    scripted_server.answers.append(pb.EmbedResponse())
    port = scripted_server.target.rpartition(":")[2]
    with refusing_proxy(monkeypatch) as seen, BertClient(form.format(port)) as client:
        client.embed("a")
    assert seen == []


async def test_a_failure_behind_the_proxy_names_the_variable(monkeypatch):
    """Or its reader looks for the fault at the server."""
    reason = r"403.*\(called through the HTTP proxy of the environment's http_proxy\)"
    with refusing_proxy(monkeypatch) as seen:
        with BertClient("bertserve.invalid:50051") as client, pytest.raises(UnavailableError, match=reason):
            client.embed("a")
        async with AsyncBertClient("bertserve.invalid:50051") as client:
            with pytest.raises(UnavailableError, match=reason):
                await client.embed("a")
    assert seen[0].startswith("CONNECT bertserve.invalid:50051 ")
