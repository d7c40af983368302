"""Lanes × threads, and how a rate is counted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from bertbench.graph.lanes import Arrangement, ReadyBatch, arrangements, cycles_for, measure_rate

pytestmark = pytest.mark.export


def test_arrangements_use_every_core() -> None:
    """Lanes × threads is the number of cores, whichever way."""
    assert arrangements(4) == [Arrangement(1, 4), Arrangement(2, 2), Arrangement(4, 1)]
    assert arrangements(3) == [Arrangement(1, 3), Arrangement(3, 1)]


@pytest.mark.parametrize(
    ("batches", "lanes", "cycle_seconds", "cycles"),
    [(10, 2, 0.1, 4), (10, 2, 5.0, 1), (1, 2, 5.0, 2), (3, 8, 5.0, 3)],
    ids=["fills the time", "at least once", "a batch for each lane", "a batch for each of many lanes"],
)
def test_cycles(batches: int, lanes: int, cycle_seconds: float, cycles: int) -> None:
    """Long enough to measure, and no lane idle."""
    assert cycles_for(batches, lanes, cycle_seconds, seconds=0.4) == cycles


def test_every_batch_runs_once_a_cycle_on_all_lanes() -> None:
    """Two lanes share four batches of each of three cycles."""
    runs: list[str] = []

    def run() -> None:
        runs.append(threading.current_thread().name)
        time.sleep(0.002)

    with ThreadPoolExecutor(2) as pool:
        rate = measure_rate(pool, 2, [ReadyBatch(run=run, tokens=10)] * 4, cycles=3)
    assert len(runs) == 12
    assert len(set(runs)) == 2
    # Two lanes of one batch of ten tokens in at least 2 ms.
    assert 0 < rate <= 2 * 10 / 0.002


def test_a_batch_that_fails_fails_the_measurement() -> None:
    """No figure comes of a run that did not run."""

    def run() -> None:
        raise ValueError("broken")

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="broken"):
        measure_rate(pool, 1, [ReadyBatch(run=run, tokens=1)], cycles=1)
