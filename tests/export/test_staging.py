"""Writing a bundle: all of it, or nothing, and in the place of nothing but a bundle."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from bertexport.errors import ExportError
from bertexport.staging import staged_directory

pytestmark = pytest.mark.export


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
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").touch()
    with pytest.raises(RuntimeError), staged_directory(tmp_path / "bundle", replace=True):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["manifest.json"]


def test_replacing_leaves_the_new_bundle_alone(tmp_path: Path) -> None:
    """Nothing of the old directory survives."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").touch()
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
        with pytest.raises(ExportError, match="is not a bundle"), staged_directory(target, replace=True):
            pytest.fail("the block was entered")
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "chapter.tex"]


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


@pytest.mark.parametrize("target", ["/", "a\0b", "x" * 300], ids=["root", "null byte", "too long"])
def test_impossible_target_is_refused(target: str) -> None:
    """One line, whatever the system says of it."""
    with pytest.raises(ExportError), staged_directory(Path(target), replace=True):
        pytest.fail("the block was entered")
