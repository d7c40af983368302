"""A directory that appears whole or not at all, and never takes the place of anything but a bundle.

Knows nothing of what is written into it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bertserve.bundle import MANIFEST_NAME

from bertexport.errors import ExportError


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
        staging = Path(tempfile.mkdtemp(prefix=".bertexport.", dir=target.parent))
    except (OSError, ValueError, RuntimeError) as error:  # also a null byte, a loop of links
        raise _unwritable(output, error) from error
    try:
        yield staging
        staging.chmod(0o755)
        _sync_directory(staging)
        _take_name(staging, target)
    except OSError as error:
        # A failed write bears no name. A file beyond the staging directory is one that the block reads.
        if error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(staging):
            raise _unwritable(output, error) from error
        raise ExportError(f"{os.fsdecode(error.filename)}: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in new_parents:
            with contextlib.suppress(OSError):  # not empty: the bundle, or somebody else's files, are in it
                parent.rmdir()


def _unwritable(output: Path, error: Exception) -> ExportError:
    return ExportError(f"{output} cannot be written: {getattr(error, 'strerror', None) or error}")


def _check_target(target: Path, *, replace: bool) -> None:
    if not target.exists():
        return
    if not replace:
        raise ExportError(f"{target} already exists; choose another directory or pass --force")
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST_NAME).is_file()):
        raise ExportError(f"{target} is not a bundle, and --force replaces nothing else; choose another directory")


def _sync_directory(directory: Path) -> None:
    for path in [*directory.iterdir(), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _take_name(staging: Path, target: Path) -> None:
    """Rename; an old directory is moved aside first, since a rename cannot replace one that holds files."""
    if not target.exists():
        staging.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=".bertexport.old.", dir=target.parent))
    target.rename(aside / target.name)
    staging.rename(target)
    shutil.rmtree(aside, ignore_errors=True)
