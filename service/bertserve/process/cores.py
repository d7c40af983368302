"""How many CPU cores this process may really use: its affinity, and the quotas of its cgroups."""

from __future__ import annotations

import os
from pathlib import Path

from bertserve.process.cgroups import ROOT, find_cgroups


def usable_cores(root: Path = ROOT) -> int:
    """max(1, ⌊min(affinity, quota)⌋): `os.cpu_count` knows nothing of containers."""
    affinity = len(os.sched_getaffinity(0))
    quota = read_quota(root)
    return max(1, min(affinity, int(quota)) if quota is not None else affinity)


def read_quota(root: Path = ROOT) -> float | None:
    """Cores that the tightest CPU quota amounts to, None without a quota. root: see `find_cgroups`."""
    quotas = [_quota_of(folder) for folder in find_cgroups("cpu", root)]
    return min((quota for quota in quotas if quota is not None), default=None)


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
