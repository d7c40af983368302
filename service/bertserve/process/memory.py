"""How much memory this process holds, and how much its cgroups let it hold."""

from __future__ import annotations

import os
from pathlib import Path

from bertserve.process.cgroups import ROOT, find_cgroups

# Version 2, then version 1. A limit that is no limit is `max`, or a number beyond any machine's memory.
LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")
UNLIMITED_BYTES = 2**60


def resident_bytes(root: Path = ROOT) -> int:
    """Resident memory of this process; 0 on a system without /proc."""
    try:
        pages = (root / "proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def read_memory_limit(root: Path = ROOT) -> int | None:
    """The tightest memory limit in bytes, None without a limit. root: see `find_cgroups`."""
    limits = (_limit_of(folder / name) for folder in find_cgroups("memory", root) for name in LIMIT_FILES)
    return min((limit for limit in limits if limit is not None and limit < UNLIMITED_BYTES), default=None)


def _limit_of(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
