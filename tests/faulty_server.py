"""`bertserve` with a fault at the engine's seam: a run stalls for as long as the file named by STALL_WHILE is there.

A real ONNX Runtime does not stall on demand; all else is the server as it is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from bertserve.__main__ import main
from bertserve.bundle import Bundle
from bertserve.engine.contract import RunStop
from bertserve.engine.items import ItemOutputs
from bertserve.engine.opening import DEFAULT_RUNTIME, RUNTIMES
from bertserve.engine.ort.runtime import OrtRuntime
from bertserve.engine.ort.session import OrtEngine
from bertserve.engine.packing import PackedBatch

STALL_WHILE = Path(os.environ["STALL_WHILE"])


class StallingEngine(OrtEngine):
    def run(self, batch: PackedBatch, stop: RunStop | None = None) -> list[ItemOutputs]:
        while STALL_WHILE.exists():
            time.sleep(0.01)
        return super().run(batch, stop)


class StallingRuntime(OrtRuntime):
    def open(self, bundle: Bundle, threads: int) -> StallingEngine:
        return StallingEngine(bundle, threads)


RUNTIMES[DEFAULT_RUNTIME] = StallingRuntime()
main()
