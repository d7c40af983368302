"""How many threads a run takes, in ONNX Runtime and in PyTorch alike."""

from __future__ import annotations

import os

from bertserve.process.cores import usable_cores


def count_threads() -> int:
    """As many as this process may run at once: with more, a container's quota would throttle them all together."""
    return usable_cores() if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
