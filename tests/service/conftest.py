"""Fixtures of the server's parts: a batcher on one real lane, with a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bertserve.batching.admission import Speed
from bertserve.batching.batcher import Batcher
from bertserve.batching.policy import BatchLimits
from bertserve.engine.lanes import Lanes
from bertserve.observe.metrics import Metrics
from scripted_engine import BATCH_TOKENS, QUEUE_TOKENS, ScriptedEngine


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def lanes(engine: ScriptedEngine) -> Iterator[Lanes]:
    """One lane, so that what runs and what waits is known: one batch runs, one is ready, the rest waits."""
    lanes = Lanes(1)
    yield lanes
    engine.gate.set()
    lanes.stop()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def batcher(engine: ScriptedEngine, lanes: Lanes, metrics: Metrics) -> Batcher:
    limits = BatchLimits(batch_tokens=BATCH_TOKENS, overtaken_seconds=10)
    batcher = Batcher(lanes, limits, QUEUE_TOKENS, metrics)
    batcher.add_model("m", engine, Speed(tokens=1000, seconds=1))
    return batcher
