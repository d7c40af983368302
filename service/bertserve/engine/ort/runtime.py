"""ONNX Runtime on the processor's cores, as a kind of engine."""

from __future__ import annotations

from bertserve.bundle import Bundle
from bertserve.engine.contract import LanePlan, LaneWishes, Runtime
from bertserve.engine.ort.session import OrtEngine

# Long enough that a run's fixed cost is small, and short enough that a short text does not wait long for the others.
DEFAULT_BATCH_TOKENS = 256


class OrtRuntime(Runtime):
    """Lanes of one thread each, as many as there are cores: narrow runs lose no time at barriers between operators."""

    def plan(self, cores: int, wishes: LaneWishes) -> LanePlan:
        threads = wishes.lane_threads or 1
        return LanePlan(
            lanes=wishes.lanes or max(1, cores // threads),
            lane_threads=threads,
            batch_tokens=wishes.batch_tokens or DEFAULT_BATCH_TOKENS,
        )

    def open(self, bundle: Bundle, threads: int) -> OrtEngine:
        return OrtEngine(bundle, threads)
