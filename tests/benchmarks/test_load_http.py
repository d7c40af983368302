"""The load generator over HTTP, for peers that speak nothing else, against a real server of scripted answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from bertbench.load.driver import carry_out
from bertbench.load.plan import ClosedLoop, Plan
from bertbench.load.requests import PreparedRequest
from bertbench.load.summary import summarize
from bertbench.peers.infinity import infinity_requests

pytestmark = pytest.mark.export


class Handler(BaseHTTPRequestHandler):
    """Answers with the status that is the request's text; 0 is an answer that comes too late."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        status = int(json.loads(self.rfile.read(int(self.headers["content-length"])))["input"][0])
        if status == 0:
            time.sleep(1.0)
        body = b"{}"
        self.send_response(status or 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def target() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("200", "OK"),
        ("400", "INVALID_ARGUMENT"),
        ("429", "RESOURCE_EXHAUSTED"),
        ("503", "UNAVAILABLE"),
        ("500", "INTERNAL"),
        ("0", "DEADLINE_EXCEEDED"),
    ],
)
def test_http_statuses_are_counted_as_those_of_grpc(target: str, text: str, status: str) -> None:
    """So that one table holds both kinds of peer; tokens are those given, for answers alone."""
    requests: tuple[PreparedRequest, ...] = infinity_requests([text], [12])
    plan = Plan(target=target, loop=ClosedLoop(callers=2), seconds=0.3, warmup_seconds=0, timeout_seconds=0.5)
    run = carry_out(plan, requests)
    assert summarize(run).statuses == {status: len(run.records)}
    assert run.records.tokens.tolist() == [12 if status == "OK" else 0] * len(run.records)
