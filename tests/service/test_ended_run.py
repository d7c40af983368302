"""A run that is told to end leaves nothing behind in its session: the lane that takes over goes on with the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from bertserve.bundle import read_bundle
from bertserve.engine.contract import RunStop
from bertserve.engine.golden import check_golden, comparable_outputs, read_golden
from bertserve.engine.items import Item, ItemOutputs, Wanted
from bertserve.engine.ort.session import OrtEngine
from bertserve.engine.packing import PackedBatch
from servers import PRETRAINING


@pytest.fixture(scope="module")
def engine() -> OrtEngine:
    return OrtEngine(read_bundle(PRETRAINING), threads=1)


def long_items() -> Iterator[Item]:
    """Of many lengths, so that the attention's loop goes round often."""
    rng = np.random.default_rng(0)
    for length in range(8, 128):
        for _ in range(20):
            ids = rng.integers(5, 300, length)
            yield Item(input_ids=ids, token_type_ids=np.zeros_like(ids), wanted=Wanted(pooler=True))


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_session_computes_the_same_after_a_run_was_ended(engine: OrtEngine, part: float) -> None:
    """Wherever in its course: the next outputs have the same bits, and the golden ones are reproduced."""
    golden = [case.item for case in read_golden(engine.bundle.golden_path)]
    batch = engine.pack(list(long_items()))
    started = time.monotonic()
    expected = engine.run(batch)
    whole_seconds = time.monotonic() - started
    golden_before = engine.run_items(golden)
    stop = RunStop()
    timer = threading.Timer(part * whole_seconds, stop.request)
    timer.start()
    with pytest.raises(Exception, match="terminate"):
        run_on(engine, batch, stop)
    timer.join()
    check_golden(engine)
    np.testing.assert_equal(outputs_of(engine.run_items(golden)), outputs_of(golden_before))
    np.testing.assert_equal(outputs_of(engine.run(batch)), outputs_of(expected))


def run_on(engine: OrtEngine, batch: PackedBatch, stop: RunStop) -> None:
    """Until it is told to end: whatever else the machine does, that falls into a run."""
    while True:
        engine.run(batch, stop)


def outputs_of(results: list[ItemOutputs]) -> list[dict[str, np.ndarray]]:
    return [comparable_outputs(result) for result in results]
