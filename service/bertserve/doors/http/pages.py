"""An HTTP server for a few small pages: one request a connection, bounded in time, in size and in connections.

Knows nothing of what the pages say.
"""

from __future__ import annotations

import contextlib
import io
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from bertserve.process.descriptors import DescriptorWatch, are_used_up

# Of one request, from the connection to its last header; and of the answer.
READ_SECONDS = 10.0
WRITE_SECONDS = 10.0

# Open at a time. One more ends the oldest: probes take milliseconds, and a slow client must not keep them out.
MAX_CONNECTIONS = 64

# To read what a client still sends after its answer. If unread bytes were left, the system would take the answer back.
LINGER_SECONDS = 1.0
LINGER_BYTES = 1024 * 1024

# Between two tries to accept while no descriptor is free.
ACCEPT_PAUSE_SECONDS = 0.2

METHODS = "GET, HEAD, OPTIONS"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: HTTP status, MIME type, and bytes."""

    status: int
    content_type: str
    body: bytes


class PageServer(socketserver.ThreadingTCPServer):
    """Answers GET and HEAD with the pages that `find_page` gives for a path and an `Accept` header."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], find_page: Callable[[str, str], Page]) -> None:
        """Binds at once. Raises OSError."""
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.find_page = find_page
        self._descriptors = DescriptorWatch()
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._changing = threading.Lock()
        super().__init__(address, _Handler)
        self.socket.setblocking(False)  # a client that has left by now must not hold up the others

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if are_used_up(error):
                self._descriptors.look()
                time.sleep(ACCEPT_PAUSE_SECONDS)  # the connection stays in the backlog, and would be offered at once
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > MAX_CONNECTIONS else None
            if oldest is not None:
                del self._open[oldest]
        if oldest is not None:
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            _read_rest(request)
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        with self._changing:
            self._open.pop(request, None)
        super().close_request(request)

    def service_actions(self) -> None:
        """Called twice a second."""
        self._descriptors.look_now_and_then()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news; stderr is for log lines."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # by the default, HTTP/0.9, garbage would get no status line
    server_version = "bertserve"
    sys_version = ""
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_TimedReader(self.connection, READ_SECONDS))

    def do_GET(self) -> None:
        try:
            path = _path(self.path)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if self.request_version == "HTTP/1.1" and len(self.headers.get_all("Host", [])) != 1:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        self._send(self.server.find_page(path, ",".join(self.headers.get_all("Accept", []))))

    def do_OPTIONS(self) -> None:
        self._send(Page(HTTPStatus.OK, "text/plain", b""), allow=METHODS)

    def _refuse(self) -> None:
        self._send(Page(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", f"use {METHODS}\n".encode()), allow=METHODS)

    do_HEAD = do_GET  # noqa: N815 - the library's names, here and below
    do_POST = do_PUT = do_PATCH = do_DELETE = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def handle_expect_100(self) -> bool:
        """No page reads a body, so that the answer is the final one."""
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Without what the client wrote, which the library would quote."""
        self._send(Page(code, "text/plain", f"{HTTPStatus(code).phrase}\n".encode()))

    def _send(self, page: Page, allow: str = "") -> None:
        self.connection.settimeout(WRITE_SECONDS)
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        if allow:
            self.send_header("Allow", allow)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - probes come by the second
        pass


class _TimedReader(io.RawIOBase):
    """What a connection sends until a time is over, however slowly it comes. Raises TimeoutError then."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._ends = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _path(target: str) -> str:
    """The path of a request's target, which may be a whole URL as proxies write it. Raises ValueError for others."""
    is_whole = target.lower().startswith(("http://", "https://"))
    path = urlsplit(target).path or "/" if is_whole else target.partition("?")[0]
    if not path.startswith("/"):
        raise ValueError(target)
    return unquote(path)


def _read_rest(connection: socket.socket) -> None:
    """Until the client closes. Raises OSError, TimeoutError among them."""
    reader = _TimedReader(connection, LINGER_SECONDS)
    buffer = bytearray(64 * 1024)
    left = LINGER_BYTES
    while left > 0 and (count := reader.readinto(buffer)):
        left -= count
