"""The metrics port as an HTTP server: every method, targets in every form, and clients that do not behave."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from bertserve.doors.http import pages
from bertserve.doors.http.pages import MAX_CONNECTIONS, Page, PageServer
from servers import RunningServer

PAGE = b"of 18 characters.\n"


def find_page(path: str, accept: str) -> Page:
    """The page /here; anything else says what was asked for."""
    if path == "/here":
        return Page(200, "text/plain", PAGE)
    return Page(404, "text/plain", f"{path}|{accept}".encode())


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with PageServer(("127.0.0.1", 0), find_page) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield server.server_address  # type: ignore[misc]
        server.shutdown()
        serving.join(timeout=30)


@dataclass(frozen=True)
class Answer:
    line: str
    headers: dict[str, str]
    body: bytes


def ask(address: tuple[str, int], request: bytes) -> Answer:
    """What comes until the server closes, which it must."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as file:
            return parse(file.read())


def parse(content: bytes) -> Answer:
    head, separator, body = content.partition(b"\r\n\r\n")
    assert separator, content
    line, *fields = head.decode("ascii").split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    assert len(headers) == len(fields)
    return Answer(line, headers, body)


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("GET", "200 OK"),
        ("HEAD", "200 OK"),
        ("OPTIONS", "200 OK"),
        *((method, "405 Method Not Allowed") for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT")),
        ("BREW", "501 Not Implemented"),
        ("get", "501 Not Implemented"),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_every_method_is_answered(address: tuple[str, int], method: str, status: str, version: str) -> None:
    """With its length, without a body to HEAD, and with the methods that there are."""
    answer = ask(address, f"{method} /here HTTP/{version}\r\nHost: x\r\n\r\n".encode())
    assert answer.line == f"HTTP/1.1 {status}"
    assert answer.headers["Connection"] == "close"
    assert ("Allow" in answer.headers) == (method == "OPTIONS" or status.startswith("405"))
    assert int(answer.headers["Content-Length"]) == (len(PAGE) if method == "HEAD" else len(answer.body))
    assert answer.body == {"GET": PAGE, "HEAD": b"", "OPTIONS": b""}.get(method, answer.body)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /here\r\n\r\n", 200),
        (b"GET /here HTTP/x\r\n\r\n", 400),
        (b"GET here HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://[x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /here HTTP/1.1\r\n\r\n", 400),
        (b"GET /here HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /here HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /here HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
    ids=["TLS", "a word", "no version", "a wrong version", "no path", "no URL", "no host", "two hosts", "HTTP/2",
         "a long target", "a long header", "many headers"],
)  # fmt: skip
def test_what_is_no_request_is_told_so(address: tuple[str, int], request_: bytes, status: int) -> None:
    """By a status line of HTTP, and without what was sent."""
    answer = ask(address, request_)
    assert answer.line.startswith(f"HTTP/1.1 {status} ")
    assert int(answer.headers["Content-Length"]) == len(answer.body) < 40


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/here?name=x&y", None),
        ("/h%65re", None),
        ("http://other:1/here?x", None),
        ("HTTPS://other/here", None),
        ("http://other", "/"),
        ("//here", None),
        ("/%2Fhere", "//here"),
        ("/%C3%A9", "/é"),
        ("/here/", "/here/"),
    ],
)
def test_a_target_is_found_in_every_form(address: tuple[str, int], target: str, path: str | None) -> None:
    """With a query, encoded, or whole as a proxy writes it."""
    answer = ask(address, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.body == (PAGE if path is None else f"{path}|".encode())


def test_what_a_client_accepts_may_stand_in_several_headers(address: tuple[str, int]) -> None:
    """They count as one list."""
    answer = ask(address, b"GET /x HTTP/1.1\r\nHost: x\r\nAccept: a/b\r\nAccept: c/d;q=0.5\r\n\r\n")
    assert answer.body == b"/x|a/b,c/d;q=0.5"


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"], ids=["sent at once", "announced"])
def test_a_body_does_not_cost_its_sender_the_answer(address: tuple[str, int], expect: bytes) -> None:
    """Nobody reads it, and yet the connection is not reset before the answer has come."""
    body = b"x" * 600_000
    request = b"POST /here HTTP/1.1\r\nHost: x\r\n" + expect + b"Content-Length: 600000\r\n\r\n"
    assert ask(address, request + body).line == "HTTP/1.1 405 Method Not Allowed"


def test_a_second_request_on_a_connection_is_left_unanswered(address: tuple[str, int]) -> None:
    """The first answer says that the connection closes."""
    answer = ask(address, b"GET /here HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" * 3)
    assert (answer.headers["Connection"], answer.body) == ("close", PAGE)


def test_a_client_may_close_its_side_first(address: tuple[str, int]) -> None:
    """As `nc -N` does."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(b"GET /here HTTP/1.0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            assert parse(file.read()).body == PAGE


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "by drips"])
def test_a_slow_request_is_ended(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, drip: bool) -> None:
    """Its time counts as a whole, so that bytes now and then do not prolong it."""
    monkeypatch.setattr(pages, "READ_SECONDS", 0.2)
    with socket.create_connection(address, timeout=30) as connection:
        ended = threading.Event()

        def send_slowly() -> None:
            try:
                connection.sendall(b"GET /here HTTP/1.1\r\n")
                while drip and not ended.wait(0.02):
                    connection.sendall(b"X: y\r\n")
            except OSError:
                pass

        sender = threading.Thread(target=send_slowly)
        sender.start()
        with contextlib.suppress(ConnectionResetError):  # it was sent more after it had closed
            assert connection.recv(1) == b""
        ended.set()
        sender.join(timeout=30)


def test_idle_connections_keep_nobody_out(address: tuple[str, int]) -> None:
    """However many stand open, the oldest gives way."""
    idle = [socket.create_connection(address, timeout=30) for _ in range(MAX_CONNECTIONS + 5)]
    try:
        assert ask(address, b"GET /here HTTP/1.0\r\n\r\n").body == PAGE
        assert idle[0].recv(1) == b""
        idle[-1].sendall(b"GET /here HTTP/1.0\r\n\r\n")
        with idle[-1].makefile("rb") as file:
            assert parse(file.read()).body == PAGE
    finally:
        for connection in idle:
            connection.close()


def test_metrics_are_written_as_their_reader_accepts_them(server: RunningServer) -> None:
    """OpenMetrics for who asks for it, and as much of it announced to HEAD."""
    host, _, port = server.metrics.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    for accept, content_type, last in [
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", b"# EOF\n"),
        ("*/*", "text/plain", b""),
    ]:
        connection.request("GET", "/metrics", headers={"Accept": accept})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.headers["Content-Type"].startswith(content_type)
        assert body.endswith(b"# EOF\n") == bool(last)
        assert len(body) == int(answer.headers["Content-Length"])
    connection.request("HEAD", "/livez")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "3", b"")
