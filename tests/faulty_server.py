"""`bertserve` with a fault at the engine's seam: a run stalls for as long as the file named by STALL_WHILE is there.

A real ONNX Runtime does not stall on demand; all else is the server as it is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from bertserve.__main__ import main
from bertserve.engine.ort.session import Engine, RunStop
from bertserve.engine.packing import PackedBatch

STALL_WHILE = Path(os.environ["STALL_WHILE"])
run = Engine.run


def run_or_stall(engine: Engine, batch: PackedBatch, stop: RunStop | None = None) -> Any:
    while STALL_WHILE.exists():
        time.sleep(0.01)
    return run(engine, batch, stop)


Engine.run = run_or_stall  # type: ignore[method-assign]
main()
