"""Whether a path is a plain file, found before it is opened: to open a FIFO waits, and a link leads anywhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

# What may stand in a file's place, by the type in its mode.
OTHER_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


class NotPlainError(Exception):
    """The message names the kind, such as `a FIFO`."""


def find_plain_file(path: Path) -> os.stat_result:
    """Links are not followed. Raises NotPlainError for other kinds, and OSError."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise NotPlainError(OTHER_KINDS.get(stat.S_IFMT(found.st_mode), "a special file"))
    return found
