"""Writing a bundle: all of it, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from bertserve.bundle import BundleError, staged_directory


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


def test_failure_leaves_the_old_bundle(tmp_path: Path) -> None:
    """With replace, the old directory stays until the new one is complete."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").touch()
    with pytest.raises(RuntimeError), staged_directory(tmp_path / "bundle", replace=True):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["old"]


def test_replacing_leaves_the_new_bundle_alone(tmp_path: Path) -> None:
    """Nothing of the old directory survives."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").touch()
    with staged_directory(tmp_path / "bundle", replace=True) as staging:
        (staging / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "new"]


def test_existing_target_is_refused_at_once(tmp_path: Path) -> None:
    """Before any work is done; the message names the flag."""
    (tmp_path / "bundle").mkdir()
    with pytest.raises(BundleError, match="--force"), staged_directory(tmp_path / "bundle", replace=False):
        pytest.fail("the block was entered")
