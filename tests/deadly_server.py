"""`bertserve` that a long text ends as the kernel does when memory is out: without a status, in the middle of a run.

The engine's seam alone is changed. LONGEST is the length in tokens that it survives; golden inputs are shorter.
"""

from __future__ import annotations

import os
import signal

from bertserve.__main__ import main
from bertserve.bundle import Bundle
from bertserve.engine.contract import RunStop
from bertserve.engine.items import ItemOutputs
from bertserve.engine.opening import DEFAULT_RUNTIME, RUNTIMES
from bertserve.engine.ort.runtime import OrtRuntime
from bertserve.engine.ort.session import OrtEngine
from bertserve.engine.packing import PackedBatch

LONGEST = 64


class DeadlyEngine(OrtEngine):
    def run(self, batch: PackedBatch, stop: RunStop | None = None) -> list[ItemOutputs]:
        if any(item.length > LONGEST for item in batch.items):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(batch, stop)


class DeadlyRuntime(OrtRuntime):
    def open(self, bundle: Bundle, threads: int) -> DeadlyEngine:
        return DeadlyEngine(bundle, threads)


if __name__ == "__main__":
    RUNTIMES[DEFAULT_RUNTIME] = DeadlyRuntime()
    main()
