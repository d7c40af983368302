"""How many CPU cores this process may really use: its affinity, and the quotas of its cgroups (version 2 and 1)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")

# Where they are mounted nearly everywhere, should /proc not say.
USUAL_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/cpu")


def usable_cores(root: Path = ROOT) -> int:
    """max(1, ⌊min(affinity, quota)⌋): `os.cpu_count` knows nothing of containers."""
    affinity = len(os.sched_getaffinity(0))
    quota = read_quota(root)
    return max(1, min(affinity, int(quota)) if quota is not None else affinity)


def read_quota(root: Path = ROOT) -> float | None:
    """Cores that the tightest CPU quota amounts to, None where there is none.

    A cgroup is bound by its own quota and by those of all cgroups above it. root: where /proc and /sys are.
    """
    quotas = [_quota_of(folder) for folder in (*_cgroups(root), *(root / mount for mount in USUAL_MOUNTS))]
    return min((quota for quota in quotas if quota is not None), default=None)


def _cgroups(root: Path) -> Iterator[Path]:
    """The folders of this process's cgroups that have to do with CPU, and of all above them (cgroups(7), proc(5))."""
    places = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            places["cgroup" if controllers else "cgroup2"] = place
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        _, _, _, mounted, point, *_ = mount.split()
        kind, _, options = filesystem.split(maxsplit=2)
        if kind in places and (kind == "cgroup2" or "cpu" in options.split(",")):
            yield from _lineage(root / point.lstrip("/"), PurePosixPath(mounted), PurePosixPath(places[kind]))


def _lineage(point: Path, mounted: PurePosixPath, place: PurePosixPath) -> Iterator[Path]:
    """From a cgroup up to the mount's top. In a container `mounted` may be the container's own cgroup."""
    below = place.relative_to(mounted) if place.is_relative_to(mounted) else place.relative_to("/")
    if ".." not in below.parts:
        for parent in (below, *below.parents):
            yield point / parent


def _quota_of(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period_us = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
