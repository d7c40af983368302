"""Time by operator."""

from __future__ import annotations

from typing import Any

import pytest
from bertbench.graph.profile import add_up

pytestmark = pytest.mark.export


def kernel(operator: str, start: int, duration: int) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{operator}_kernel_time",
        "ts": start,
        "dur": duration,
        "args": {"op_name": operator},
    }


def test_an_operator_answers_for_its_own_time_alone() -> None:
    """A loop of 60 µs that holds two nodes of 20 µs costs 20; the first run, which allocates, is left out."""
    events = [
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 500},
        kernel("Gemm", 10, 400),
        {"cat": "Session", "name": "model_run", "ts": 1000, "dur": 200},
        kernel("Gemm", 1000, 100),
        kernel("Loop", 1100, 60),
        kernel("Attention", 1105, 20),
        kernel("Attention", 1130, 20),
        {"cat": "Node", "name": "Gemm_fence_before", "ts": 1160, "dur": 1, "args": {"op_name": "Gemm"}},
    ]
    shares = {share.operator: (share.calls, round(share.seconds * 1e6), share.share) for share in add_up(events, 1)}
    assert shares == {"Gemm": (1, 100, 0.625), "Attention": (2, 40, 0.25), "Loop": (1, 20, 0.125)}
