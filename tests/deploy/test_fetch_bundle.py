"""The init container's script: a real download from a real HTTP server on loopback."""

from __future__ import annotations

import functools
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from bertserve.bundle import BundleError, read_bundle
from servers import CLASSIFIER, PRETRAINING

from .conftest import DEPLOY

SCRIPT = DEPLOY / "components" / "model-from-init-container" / "fetch_bundle.py"
BUNDLE_ID = read_bundle(PRETRAINING).manifest.bundle_id

# The script's function in this process, where its exceptions say enough.
fetch_here = runpy.run_path(str(SCRIPT))["fetch"]

# What no bundle holds: name, type, and for links where to.
HOSTILE = {
    "a file above": ("../escaped", tarfile.REGTYPE, ""),
    "a file elsewhere": ("{outside}/escaped", tarfile.REGTYPE, ""),
    "a file above, by way of a folder": ("./a/../../escaped", tarfile.REGTYPE, ""),
    "a file in a folder": ("folder/file", tarfile.REGTYPE, ""),
    "a folder": ("folder", tarfile.DIRTYPE, ""),
    "the folder above": ("..", tarfile.DIRTYPE, ""),
    "a symbolic link": ("link", tarfile.SYMTYPE, "{outside}"),
    "a symbolic link in the folder's place": (".", tarfile.SYMTYPE, "{outside}"),
    "a hard link": ("link", tarfile.LNKTYPE, "manifest.json"),
    "a device": ("device", tarfile.CHRTYPE, ""),
    "a pipe": ("pipe", tarfile.FIFOTYPE, ""),
    "a name cut short": ("file\0", tarfile.REGTYPE, ""),
    "a name for Windows": ("..\\escaped", tarfile.REGTYPE, ""),
    "a name twice": ("manifest.json", tarfile.REGTYPE, ""),
}


class _QuietHandler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        """Also answers that are none: one that breaks off within a chunk, and one that is no HTTP."""
        if self.path == "/broken-off":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n")
        elif self.path == "/no-http":
            self.wfile.write(b"220 mail.example.com\r\n")
        else:
            super().do_GET()

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


def test_a_second_start_needs_no_store(address: str, tmp_path: Path) -> None:
    """What an earlier one left whole is served again, as a pod outlives its node's restart."""
    target = tmp_path / "models" / "bundle"
    assert fetch(f"{address}/good.tar.gz", target).returncode == 0
    assert fetch(f"{address}/none.tar", target).returncode == 0
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("left", ["bundle", "bundle.partial"])
def test_what_is_left_and_not_whole_is_fetched_anew(address: str, tmp_path: Path, left: str) -> None:
    """Of a download that was cut short, or of a disk that lost something."""
    target = tmp_path / "models" / "bundle"
    shutil.copytree(PRETRAINING, target.with_name(left))
    (target.with_name(left) / "model.onnx").write_bytes(b"")
    assert fetch(f"{address}/good.tar.gz", target).returncode == 0
    assert read_bundle(target).manifest.bundle_id == BUNDLE_ID
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


@pytest.mark.parametrize("name", ["broken-off", "no-http", "with-a blank"])
def test_what_is_no_answer_is_one_line(address: str, tmp_path: Path, name: str) -> None:
    """Not a traceback, as the pod's log is what there is to read."""
    ended = fetch(f"{address}/{name}", tmp_path / "models" / "bundle")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{address}/{name}: ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:1/my-bert.tar?Signature=secret", "http://127.0.0.1:1/my-bert.tar?…: <urlopen error "),
        ("http://127.0.0.1:1/my-bert.tar?Signature=secret x", "http://127.0.0.1:1/my-bert.tar?…: URL can't contain "),
        ("http://somebody:secret@127.0.0.1/my-bert.tar", "http://…@127.0.0.1/my-bert.tar: nonnumeric port"),
        ("my-bert.tar?Signature=secret", "my-bert.tar?…: unknown url type: 'my-bert.tar?…'"),
        ("http://[somebody:secret@127.0.0.1/my-bert.tar", "http://…@127.0.0.1/my-bert.tar: Invalid IPv6 URL"),
    ],
)
def test_secrets_of_an_address_are_not_told(tmp_path: Path, url: str, shown: str) -> None:
    """Logs are read by more people than the store lets in."""
    ended = fetch(url, tmp_path / "models" / "bundle")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(shown)
    assert "secret" not in line


@pytest.mark.parametrize("kind", HOSTILE)
def test_all_but_plain_files_are_refused(tmp_path: Path, kind: str) -> None:
    """One such member behind a good bundle: it is named, there is no bundle, and nothing lies anywhere else."""
    name, type_, link = HOSTILE[kind]
    member = tarfile.TarInfo(name.format(outside=tmp_path))
    member.type, member.linkname = type_, link.format(outside=tmp_path)
    # Without it, the name would be cut at a zero.
    member.pax_headers = {"path": member.name}
    with tarfile.open(tmp_path / "hostile.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(PRETRAINING, ".")
        tar.addfile(member)
    target = tmp_path / "models" / "bundle"
    with pytest.raises(BundleError, match=re.escape(f"the tar holds {member.name!r}")):
        fetch_here((tmp_path / "hostile.tar").as_uri(), BUNDLE_ID, target)
    assert names_in(tmp_path) == {"hostile.tar", "models"}
    assert names_in(target.parent) == {"bundle.partial"}
    assert names_in(target.with_name("bundle.partial")) == names_in(PRETRAINING)


def test_modes_are_not_the_tars(tmp_path: Path) -> None:
    """No file becomes a program, writable for all, or one that runs as its owner."""

    def open_to_all(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mode = 0o7777
        return member

    with tarfile.open(tmp_path / "modes.tar", "w") as tar:
        tar.add(PRETRAINING, ".", filter=open_to_all)
    target = tmp_path / "models" / "bundle"
    fetch_here((tmp_path / "modes.tar").as_uri(), BUNDLE_ID, target)
    assert not any(file.stat().st_mode & 0o7113 for file in target.iterdir())


def names_in(folder: Path) -> set[str]:
    """Of all that lies in a folder."""
    return {path.name for path in folder.iterdir()}


def fetch(url: str, target: Path) -> subprocess.CompletedProcess[str]:
    """The script, as the init container runs it."""
    target.parent.mkdir(exist_ok=True)
    environment = {"BUNDLE_URL": url, "BUNDLE_ID": BUNDLE_ID}
    return subprocess.run(
        [sys.executable, SCRIPT, target], capture_output=True, text=True, env=environment, check=False
    )
