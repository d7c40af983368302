"""A small hub on loopback: enough of the Hugging Face protocol to list a model and download its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# How long the end of a block waits for the hub to see it.
POLL_SECONDS = 0.02


@contextmanager
def serve_hub(
    models: dict[str, Path],
    revisions: tuple[str, ...] = ("main", COMMIT),
    *,
    failing: int | None = None,
    stalling: str | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Serve hub id → folder until the block ends; yields the endpoint, and the paths asked for, as they come.

    failing: the status with which everything is answered. stalling: a file whose bytes do not come before the end.
    """
    requests: list[str] = []
    ending = Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            requests.append(path)
            status, headers, body = (failing, {}, b"") if failing else respond(path, models, revisions)
            if with_body and stalling is not None and path.endswith(stalling):
                ending.wait()
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=[POLL_SECONDS], daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


def respond(path: str, models: dict[str, Path], revisions: tuple[str, ...]) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a path of the hub's API or of a file."""
    for model, folder in models.items():
        if path.startswith(f"/api/models/{model}"):
            kind, _, rest = path.removeprefix(f"/api/models/{model}").strip("/").partition("/")
            revision = rest.split("/")[0] or "main"
            if revision not in revisions:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            return answer_json(list_tree(folder) if kind == "tree" else describe(model, folder))
        if path.startswith(f"/{model}/resolve/"):
            revision, _, name = path.removeprefix(f"/{model}/resolve/").partition("/")
            if revision not in revisions:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            return answer_file(folder / name)
    return 404, {"X-Error-Code": "RepoNotFound"}, b'{"error": "Repository not found"}'


def describe(model: str, folder: Path) -> dict[str, object]:
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return {"id": model, "modelId": model, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}


def list_tree(folder: Path) -> list[dict[str, object]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        {
            "type": "file",
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest(),
        }
        for path in files
    ]


def answer_json(content: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def answer_file(path: Path) -> tuple[int, dict[str, str], bytes]:
    if not path.is_file():
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    content = path.read_bytes()
    tag = hashlib.sha256(content).hexdigest()
    return 200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Content-Type": "application/octet-stream"}, content
