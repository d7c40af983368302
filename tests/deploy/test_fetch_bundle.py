"""The init container's script: a real download from a real HTTP server on loopback."""

from __future__ import annotations

import functools
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from bertserve.bundle import read_bundle
from servers import CLASSIFIER, PRETRAINING

from .conftest import DEPLOY

SCRIPT = DEPLOY / "components" / "model-from-init-container" / "fetch_bundle.py"
BUNDLE_ID = read_bundle(PRETRAINING).manifest.bundle_id


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        pass


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder that is served: good.tar.gz, other.tar and damaged.tar."""
    folder = tmp_path / "store"
    folder.mkdir()
    for name, mode, bundle in (("good.tar.gz", "w:gz", PRETRAINING), ("other.tar", "w", CLASSIFIER)):
        with tarfile.open(folder / name, mode) as tar:
            tar.add(bundle, ".")
    packed = bytearray((folder / "other.tar").read_bytes())
    (folder / "damaged.tar").write_bytes(packed[: len(packed) // 2])
    return folder


@pytest.fixture
def address(store: Path) -> Iterator[str]:
    """Where the folder is served."""
    with HTTPServer(("127.0.0.1", 0), functools.partial(_QuietHandler, directory=store)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_bundle_asked_for_is_put_in_its_place(address: str, tmp_path: Path) -> None:
    """Whole, with its id, and nothing beside it."""
    target = tmp_path / "models" / "bundle"
    ended = fetch(f"{address}/good.tar.gz", target)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_bundle(target).manifest.bundle_id == BUNDLE_ID
    assert list(target.parent.iterdir()) == [target]


def test_a_second_start_fetches_anew(address: str, tmp_path: Path) -> None:
    """A container may start again on the same volume, with what an earlier one left."""
    target = tmp_path / "models" / "bundle"
    (target.parent / "bundle.partial").mkdir(parents=True)
    for _ in range(2):
        assert fetch(f"{address}/good.tar.gz", target).returncode == 0
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("other.tar", "not " + BUNDLE_ID), ("damaged.tar", "unexpected end of data"), ("none.tar", "404")],
)
def test_anything_else_is_refused(address: str, tmp_path: Path, name: str, reason: str) -> None:
    """Another bundle, half a tar and nothing at all: one line that says where and what, and no bundle."""
    target = tmp_path / "models" / "bundle"
    ended = fetch(f"{address}/{name}", target)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{address}/{name}: ")
    assert reason in line
    assert not target.exists()


def fetch(url: str, target: Path) -> subprocess.CompletedProcess[str]:
    """The script, as the init container runs it."""
    target.parent.mkdir(exist_ok=True)
    environment = {"BUNDLE_URL": url, "BUNDLE_ID": BUNDLE_ID}
    return subprocess.run(
        [sys.executable, SCRIPT, target], capture_output=True, text=True, env=environment, check=False
    )
