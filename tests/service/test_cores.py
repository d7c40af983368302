"""How many cores a process may use, as its cgroups say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bertserve.process.cores import read_quota, usable_cores

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {mounted} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
V1_HERE = V1.format(mounted="/")
V1_IN_CONTAINER = V1.format(mounted="/kubepods/pod1/box")
SLICE = "sys/fs/cgroup/kube.slice"
OLD = "sys/fs/cgroup/cpu,cpuacct"

CASES: dict[str, tuple[dict[str, str], float | None]] = {
    "nothing mounted": ({}, None),
    "version 2, of a container": ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
    "version 2 without a quota": ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
    "version 1, of a container": (
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        0.5,
    ),
    "version 1 without a quota": (
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        None,
    ),
    "unreadable": ({"sys/fs/cgroup/cpu.max": "what is this"}, None),
    "nested, its own is tighter": (
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/kube.slice/pod\n",
            f"{SLICE}/cpu.max": "800000 100000",
            f"{SLICE}/pod/cpu.max": "250000 100000",
        },
        2.5,
    ),
    "nested, a parent's is tighter": (
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/kube.slice/pod/box\n",
            f"{SLICE}/cpu.max": "100000 50000",
            f"{SLICE}/pod/cpu.max": "max 100000",
            f"{SLICE}/pod/box/cpu.max": "300000 100000",
        },
        2.0,
    ),
    "a neighbour's does not count": (
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/kube.slice/pod\n",
            f"{SLICE}/pod/cpu.max": "300000 100000",
            f"{SLICE}/other/cpu.max": "50000 100000",
        },
        3.0,
    ),
    "version 1, nested": (
        {
            "proc/self/mountinfo": V1_HERE,
            "proc/self/cgroup": "5:cpuset:/other\n4:cpu,cpuacct:/pod/box\n0::/\n",
            f"{OLD}/pod/cpu.cfs_quota_us": "150000",
            f"{OLD}/pod/cpu.cfs_period_us": "100000",
            f"{OLD}/pod/box/cpu.cfs_quota_us": "-1",
            f"{OLD}/pod/box/cpu.cfs_period_us": "100000",
        },
        1.5,
    ),
    "version 1, the container's own cgroup mounted": (
        {
            "proc/self/mountinfo": V1_IN_CONTAINER,
            "proc/self/cgroup": "4:cpu,cpuacct:/kubepods/pod1/box\n",
            f"{OLD}/cpu.cfs_quota_us": "50000",
            f"{OLD}/cpu.cfs_period_us": "100000",
        },
        0.5,
    ),
    "both versions, the tighter one": (
        {
            "proc/self/mountinfo": V1_HERE + V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "),
            "proc/self/cgroup": "4:cpu,cpuacct:/box\n0::/box\n",
            f"{OLD}/box/cpu.cfs_quota_us": "400000",
            f"{OLD}/box/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/unified/box/cpu.max": "300000 100000",
        },
        3.0,
    ),
    "outside of the cgroup namespace": (
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/../elsewhere\n",
            "sys/fs/cgroup/cpu.max": "300000 100000",
        },
        3.0,
    ),
}


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")


@pytest.mark.parametrize(("files", "expected"), CASES.values(), ids=CASES.keys())
def test_tightest_quota_counts(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    """Of the process's own cgroup and of all above it, in either version; None where nothing limits."""
    write_tree(tmp_path, files)
    assert read_quota(tmp_path) == expected


@pytest.mark.parametrize(("quota", "cores"), [("20000", 1), ("150000", 1), ("100000000", None)])
def test_parts_of_cores_are_left_out(tmp_path: Path, quota: str, cores: int | None) -> None:
    """A lane without a whole core would be stopped in every period; one lane there is always."""
    write_tree(tmp_path, {"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    assert usable_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))


def test_this_machine_is_read() -> None:
    """Whatever its cgroups are."""
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
