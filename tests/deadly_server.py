"""`bertserve` that a long text ends as the kernel does when memory is out: without a status, in the middle of a run.

The engine's seam alone is changed. LONGEST is the length in tokens that it survives; golden inputs are shorter.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from bertserve.__main__ import main
from bertserve.engine.ort.session import Engine, RunStop
from bertserve.engine.packing import PackedBatch

LONGEST = 64
run = Engine.run


def run_or_die(engine: Engine, batch: PackedBatch, stop: RunStop | None = None) -> Any:
    if any(item.length > LONGEST for item in batch.items):
        os.kill(os.getpid(), signal.SIGKILL)
    return run(engine, batch, stop)


if __name__ == "__main__":
    Engine.run = run_or_die  # type: ignore[method-assign]
    main()
