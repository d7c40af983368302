"""What may stand in the place of a bundle's file: each kind is named as the fault, and none is opened."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from bertserve.bundle import BundleError, read_bundle
from servers import PLAIN

NOBODY = 65534


def link(path: Path) -> None:
    path.symlink_to(PLAIN / path.name)


def broken_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def listen(path: Path) -> None:
    # A socket's path may have 107 bytes, and those of tests are longer.
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        before = Path.cwd()
        os.chdir(path.parent)
        try:
            listening.bind(path.name)
        finally:
            os.chdir(before)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (link, "is a symbolic link, and a bundle holds plain files; copy it with its links followed"),
    "broken link": (broken_link, "is a symbolic link"),
    "directory": (Path.mkdir, "is a directory"),
    "FIFO": (os.mkfifo, "is a FIFO"),
    "socket": (listen, "is a socket"),
    "nothing": (lambda path: None, "No such file|missing"),  # noqa: ARG005
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return shutil.copytree(PLAIN, tmp_path / "bundle")


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json"])
@pytest.mark.parametrize(("put", "fault"), KINDS.values(), ids=KINDS.keys())
def test_what_is_no_plain_file_is_named(bundle: Path, name: str, put: Callable[[Path], object], fault: str) -> None:
    """The manifest as well as what it lists. A FIFO, opened, would wait for its writer."""
    (bundle / name).unlink()
    put(bundle / name)
    with pytest.raises(BundleError, match=rf"{name}: .*({fault})"):
        read_bundle(bundle)


def test_a_device_is_named(bundle: Path) -> None:
    """As a mount over a file may leave one; a link to it is a link."""
    (bundle / "tokenizer.json").unlink()
    try:
        os.mknod(bundle / "tokenizer.json", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("to make a device takes a privilege")
    with pytest.raises(BundleError, match=r"tokenizer\.json: is a character device"):
        read_bundle(bundle)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything, so be nobody for a moment."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", ""], ids=["manifest", "tokenizer", "directory"])
def test_what_must_not_be_read_is_named(open_folder: Path, name: str) -> None:
    """With the system's reason."""
    bundle = shutil.copytree(PLAIN, open_folder / "bundle")
    (bundle / name).chmod(0)
    fault = rf"{name or 'manifest.json'}: cannot be read \(Permission denied\)"
    try:
        with unprivileged(), pytest.raises(BundleError, match=fault):
            read_bundle(bundle)
    finally:
        (bundle / name).chmod(0o755)


def test_a_manifest_nested_too_deep_is_no_manifest(tmp_path: Path) -> None:
    """Python's parser gives up on it with an error of its own kind."""
    (tmp_path / "manifest.json").write_text("[" * 200_000, encoding="ascii")
    with pytest.raises(BundleError, match=r"manifest\.json: not a manifest"):
        read_bundle(tmp_path)
