"""The cgroups (version 2 and 1) that bound this process: cgroups(7), proc(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def find_cgroups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Folders of this process's cgroups that have a controller, such as `cpu`, and of all cgroups above them.

    A process is bound by its own cgroup and by every cgroup above it. root: the folder that holds /proc and /sys.
    The usual mount points come last, in case /proc does not tell.
    """
    places = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            places["cgroup" if controllers else "cgroup2"] = place
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        _, _, _, mounted, point, *_ = map(_unescape, mount.split(" "))
        kind, _, options = filesystem.split(" ", 2)  # the source between them may be empty
        if kind in places and (kind == "cgroup2" or controller in options.split(",")):
            yield from _lineage(root / point.lstrip("/"), PurePosixPath(mounted), PurePosixPath(places[kind]))
    yield root / "sys/fs/cgroup"
    yield root / "sys/fs/cgroup" / controller


def _lineage(point: Path, mounted: PurePosixPath, place: PurePosixPath) -> Iterator[Path]:
    """From a cgroup up to the mount's top. In a container `mounted` may be the container's own cgroup."""
    below = place.relative_to(mounted) if place.is_relative_to(mounted) else place.relative_to("/")
    if ".." not in below.parts:
        for parent in (below, *below.parents):
            yield point / parent


def _unescape(path: str) -> str:
    """A path of mountinfo, where a space is written as `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), path)


def _lines(path: Path) -> list[str]:
    """Lines end at a line feed alone: a path among them may hold any other byte."""
    try:
        return os.fsdecode(path.read_bytes()).removesuffix("\n").split("\n")
    except OSError:
        return []
