"""Writing a bundle: all of it, or nothing, and in the place of nothing but a bundle."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bertexport.errors import ExportError
from bertexport.staging import remove_abandoned, staged_directory

pytestmark = pytest.mark.export


def make_bundle(directory: Path) -> None:
    """All that makes a folder one, as far as staging is concerned."""
    directory.mkdir()
    (directory / "manifest.json").write_text('{"bundle_id": "0", "files": {}}', encoding="utf-8")


def test_target_appears_once_the_block_ends_well(tmp_path: Path) -> None:
    """Missing parents are made, and nothing else is left beside the target."""
    target = tmp_path / "some" / "where" / "bundle"
    with staged_directory(target, replace=False) as staging:
        (staging / "file").write_text("content", encoding="utf-8")
        assert not target.exists()
    assert (target / "file").read_text(encoding="utf-8") == "content"
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    """Neither the target, nor a temporary directory, nor the parents made for it."""

    def write_half() -> None:
        with staged_directory(tmp_path / "some" / "bundle", replace=False) as staging:
            (staging / "file").write_text("content", encoding="utf-8")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """The line names the output, not a temporary file, and says what the system says."""

    def fill() -> None:
        with staged_directory(tmp_path / "bundle", replace=False), Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"content")

    with pytest.raises(ExportError) as caught:
        fill()
    assert str(caught.value) == f"{tmp_path / 'bundle'} cannot be written: {os.strerror(errno.ENOSPC)}"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """It is not the output that is at fault."""

    def read() -> None:
        with staged_directory(tmp_path / "bundle", replace=False):
            (tmp_path / "weights").read_bytes()

    with pytest.raises(ExportError, match=f"{tmp_path / 'weights'}: {os.strerror(errno.ENOENT)}"):
        read()


def test_failure_leaves_the_old_bundle(tmp_path: Path) -> None:
    """With replace, the old directory stays until the new one is complete."""
    make_bundle(tmp_path / "bundle")
    with pytest.raises(RuntimeError), staged_directory(tmp_path / "bundle", replace=True):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["manifest.json"]


def test_replacing_leaves_the_new_bundle_alone(tmp_path: Path) -> None:
    """Nothing of the old directory survives."""
    make_bundle(tmp_path / "bundle")
    with staged_directory(tmp_path / "bundle", replace=True) as staging:
        (staging / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "new"]


def test_existing_target_is_refused_at_once(tmp_path: Path) -> None:
    """Before any work is done; the message names the flag."""
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ExportError, match="--force"), staged_directory(tmp_path / "bundle", replace=False):
        pytest.fail("the block was entered")


def test_force_replaces_nothing_but_a_bundle(tmp_path: Path) -> None:
    """A folder of other files, or a file, is not overwritten, whatever the flag."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    for target in (tmp_path / "thesis", tmp_path / "thesis" / "chapter.tex"):
        with pytest.raises(ExportError, match="not a bundle"), staged_directory(target, replace=True):
            pytest.fail("the block was entered")
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "chapter.tex"]


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"name": "An app", "files": {}}'])
def test_another_programs_manifest_makes_no_bundle(manifest: str, tmp_path: Path) -> None:
    """Web pages and browser extensions have a file of that name, too."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text(manifest, encoding="utf-8")
    with (
        pytest.raises(ExportError, match=r"holds manifest\.json, which is not a bundle's"),
        staged_directory(tmp_path / "app", replace=True),
    ):
        pytest.fail("the block was entered")
    assert (tmp_path / "app" / "manifest.json").exists()


def test_a_file_that_somebody_put_into_a_bundle_is_not_lost(tmp_path: Path) -> None:
    """The manifest does not list it, so no export wrote it."""
    make_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "NOTES.md").touch()
    with pytest.raises(ExportError, match=r"holds NOTES\.md"), staged_directory(tmp_path / "bundle", replace=True):
        pytest.fail("the block was entered")
    assert (tmp_path / "bundle" / "NOTES.md").exists()


def test_what_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Two exports to one place, without --force: the first that ends well has it."""

    def write_both() -> None:
        with staged_directory(tmp_path / "bundle", replace=False) as staging:
            (staging / "late").touch()
            make_bundle(tmp_path / "bundle")

    with pytest.raises(ExportError, match="already exists"):
        write_both()
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "manifest.json"]


def test_force_replaces_an_empty_directory(tmp_path: Path) -> None:
    """Such as one that was made for the bundle."""
    (tmp_path / "bundle").mkdir()
    with staged_directory(tmp_path / "bundle", replace=True) as staging:
        (staging / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "new"]


def test_bundle_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    """The link stays one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with staged_directory(tmp_path / "link", replace=True) as staging:
        (staging / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["new"]


def test_a_read_only_target_is_one_line() -> None:
    """A folder in which nothing may be made, for whoever is not its owner either."""
    with tempfile.TemporaryDirectory() as folder, unprivileged():
        target = Path(folder) / "bundle"
        with pytest.raises(ExportError) as caught, staged_directory(target, replace=False):
            pytest.fail("the block was entered")
    assert str(caught.value) == f"{target} cannot be written: {os.strerror(errno.EACCES)}"


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Nobody's rights for those who run tests as root, to whom all is writable."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_interrupted_rename_ends_with_the_new_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the old bundle is moved aside nothing stops the new one from taking its name, Ctrl-C neither."""
    make_bundle(tmp_path / "bundle")
    rename = Path.rename

    def interrupt(path: Path, target: Path) -> Path:
        signal.raise_signal(signal.SIGINT)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupt)
    with staged_directory(tmp_path / "bundle", replace=True) as staging:
        (staging / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "new"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_failed_rename_puts_the_old_bundle_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the new one cannot take its place after all."""
    make_bundle(tmp_path / "bundle")
    rename = Path.rename

    def fail_for_the_new(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(ExportError, match="cannot be written"), staged_directory(tmp_path / "bundle", replace=True):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "manifest.json"]


def test_a_second_interruption_does_not_stop_the_cleaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever presses Ctrl-C twice leaves no more behind."""
    remove = shutil.rmtree

    def interrupt(*arguments: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(*arguments, **options)

    def write_half() -> None:
        with staged_directory(tmp_path / "bundle", replace=False) as staging:
            (staging / "half").touch()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from bertexport import staging
with staging.staged_directory(Path(sys.argv[1]), replace=False) as directory:
    (directory / "half").touch()
    print(directory.parent, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process in the middle of writing `tmp_path/bundle`, and its hidden folder."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "bundle")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_what_a_killed_process_left_is_removed(tmp_path: Path, writer: tuple[subprocess.Popen[str], Path]) -> None:
    """And named; what is still being written is left alone."""
    process, folder = writer
    assert remove_abandoned(tmp_path) == []
    assert (folder / "new" / "half").exists()
    process.kill()
    process.wait()
    assert remove_abandoned(tmp_path) == [folder]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_replaced", [False, True], ids=["its place empty", "its place taken"])
def test_an_old_bundle_of_a_killed_process_goes_back_to_its_place(is_replaced: bool, tmp_path: Path) -> None:
    """Killed between two renames, an export had moved it aside."""
    (tmp_path / ".bertexport.abc" / "old" / "bundle").mkdir(parents=True)
    (tmp_path / ".bertexport.abc" / "old" / "bundle" / "manifest.json").touch()
    if is_replaced:
        (tmp_path / "bundle").mkdir()
    assert len(remove_abandoned(tmp_path)) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", *(["manifest.json"] * (not is_replaced))]


def test_folders_of_others_are_never_removed(tmp_path: Path) -> None:
    """A name that looks like ours is not enough."""
    (tmp_path / ".bertexport.notes").mkdir()
    (tmp_path / ".bertexport.notes" / "thesis.tex").touch()
    (tmp_path / ".bertexport.link").symlink_to(tmp_path)
    (tmp_path / ".bertexport.file").touch()
    assert remove_abandoned(tmp_path) == []
    assert (tmp_path / ".bertexport.notes" / "thesis.tex").exists()


@pytest.mark.parametrize("target", ["/", "a\0b", "x" * 300], ids=["root", "null byte", "too long"])
def test_impossible_target_is_refused(target: str) -> None:
    """One line, whatever the system says of it."""
    with pytest.raises(ExportError), staged_directory(Path(target), replace=True):
        pytest.fail("the block was entered")
