"""How many CPU cores this process may really use: its affinity, and the quota of its cgroup (version 2 or 1)."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """max(1, ⌊min(affinity, quota)⌋): `os.cpu_count` knows nothing of containers."""
    affinity = len(os.sched_getaffinity(0))
    quota = read_quota(cgroup)
    return max(1, min(affinity, int(quota)) if quota is not None else affinity)


def read_quota(cgroup: Path) -> float | None:
    """Cores that the CPU quota amounts to, None where there is none."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period_us = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None
