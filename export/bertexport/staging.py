"""A directory that appears whole or not at all, and never takes the place of anything but a bundle.

While it is written it lies in a hidden folder beside its target, which whoever writes it keeps locked. The lock ends
with the process, however that ends: a folder without one was left by a process that was killed. Knows nothing of what
is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bertserve.bundle import MANIFEST_NAME

from bertexport.errors import ExportError
from bertexport.interruption import uninterrupted
from bertexport.paths import decodable

PREFIX = ".bertexport."
# Within a hidden folder: what is being written, and the bundle whose name it is about to take.
NEW, OLD = "new", "old"


@contextlib.contextmanager
def staged_directory(output: Path, *, replace: bool) -> Iterator[Path]:
    """A temporary directory beside `output` that takes its name once the block ends well, and vanishes otherwise.

    Every file is fsynced before the rename, so that a crash leaves either the old directory, the new one, or none.
    Raises ExportError where `output` exists and may not be replaced, or cannot be written; an OSError of the block,
    a full disk's for one, becomes one too.
    """
    try:
        target = output.resolve()
        _check_target(target, replace=replace)
        new_parents = [parent for parent in target.parents if not parent.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        folder, lock = _make_folder(target.parent)
    except (OSError, ValueError, RuntimeError) as error:  # also a null byte, a loop of links
        raise _unwritable(output, error) from error
    try:
        staging = folder / NEW
        staging.mkdir()
        with decodable(staging) as reachable:
            yield reachable
        staging.chmod(0o755)
        _sync_directory(staging)
        with uninterrupted():
            # An export takes its time, in which somebody else may have put something there.
            _check_target(target, replace=replace)
            _take_name(staging, target, folder / OLD)
    except OSError as error:
        # A failed write bears no name. A file beyond the staging directory is one that the block reads.
        if error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(folder):
            raise _unwritable(output, error) from error
        raise ExportError(f"{os.fsdecode(error.filename)}: {error.strerror}") from error
    finally:
        with uninterrupted():  # by whoever presses Ctrl-C twice
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
            for parent in new_parents:
                with contextlib.suppress(OSError):  # not empty: the bundle, or somebody else's files, are in it
                    parent.rmdir()


def remove_abandoned(directory: Path) -> list[Path]:
    """Remove the hidden folders in `directory` that no living process writes to, and name them.

    An old bundle that one of them had moved aside goes back to its place, unless another has taken it. What cannot be
    locked or removed is left alone.
    """
    removed = []
    for folder in sorted(directory.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError), _locked(folder):
            if not {path.name for path in folder.iterdir()} <= {NEW, OLD}:
                continue
            for old in (folder / OLD).glob("*"):
                if not (directory / old.name).exists():
                    old.rename(directory / old.name)
            shutil.rmtree(folder)
            removed.append(folder)
    return removed


def _make_folder(directory: Path) -> tuple[Path, int]:
    """A hidden folder and the descriptor that keeps it locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=directory))
        lock = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks: nobody else can have one there either
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Until it was locked, it looked abandoned.
        if folder.exists():
            return folder, lock
        os.close(lock)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises OSError where another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _unwritable(output: Path, error: Exception) -> ExportError:
    return ExportError(f"{output} cannot be written: {getattr(error, 'strerror', None) or error}")


def _check_target(target: Path, *, replace: bool) -> None:
    if not target.exists():
        return
    if not replace:
        raise ExportError(f"{target} already exists; choose another directory or pass --force")
    if not target.is_dir():
        raise ExportError(f"{target} is not a bundle, and --force replaces nothing else; choose another directory")
    if foreign := sorted({path.name for path in target.iterdir()} - _bundle_files(target)):
        raise ExportError(
            f"{target} holds {foreign[0]}, which is not a bundle's, and --force replaces nothing else; move it, or "
            "choose another directory"
        )


def _bundle_files(directory: Path) -> set[str]:
    """Names of the manifest and of all that it lists, whatever its schema; none where it is not a bundle's."""
    try:
        manifest = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
        return {MANIFEST_NAME, *manifest["files"]} if "bundle_id" in manifest else set()
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _sync_directory(directory: Path) -> None:
    for path in [*directory.iterdir(), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _take_name(staging: Path, target: Path, aside: Path) -> None:
    """Rename; an old directory is moved aside first, since a rename cannot replace one that holds files."""
    if not target.exists():
        staging.rename(target)
        return
    aside.mkdir()
    target.rename(aside / target.name)
    try:
        staging.rename(target)
    except OSError:
        (aside / target.name).rename(target)
        raise
