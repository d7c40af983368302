"""What other processes, or other guests of the host, took from a measurement."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreTimes:
    """Seconds since some moment, all cores together. total: idle ones included. busy: of all. own: of this process."""

    total: float
    busy: float
    own: float


def read_core_times(stat: Path = STAT) -> CoreTimes:
    """Of this moment; all zero where the system does not tell."""
    own = os.times()
    if not stat.is_file():
        return CoreTimes(total=0.0, busy=0.0, own=0.0)
    ticks = [int(field) for field in stat.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    _user, _nice, _system, idle, waiting, _interrupts, _soft_interrupts, _stolen = ticks
    per_second = os.sysconf("SC_CLK_TCK")
    total = sum(ticks)
    return CoreTimes(total=total / per_second, busy=(total - idle - waiting) / per_second, own=own.user + own.system)


def share_of_others(before: CoreTimes, after: CoreTimes) -> float:
    """The part of all cores' time between two moments in which they worked, but not for this process; 0 to 1."""
    total = after.total - before.total
    if total <= 0:
        return 0.0
    return max(0.0, (after.busy - before.busy) - (after.own - before.own)) / total
