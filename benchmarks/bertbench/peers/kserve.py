"""KServe's model server around `transformers`: how to start it.

Its dependencies are its own, and so it lives in an environment of its own, whose `python` is named by its path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bertbench.peers.open_inference import SERVED_NAME
from bertbench.ports import free_port
from bertbench.serving.server_process import ServerProcess, started

PROGRAM = Path(__file__).parent / "foreign" / "kserve_server.py"


@contextlib.contextmanager
def kserve(python: Path, checkpoint: Path, threads: int) -> Iterator[ServerProcess]:
    """KServe with a checkpoint in single precision. Raises BenchError if it does not start."""
    flags = {"--name": SERVED_NAME, "--threads": threads, "--port": free_port(), "--http-port": free_port()}
    options = [str(part) for flag in flags.items() for part in flag]
    with started([str(python), str(PROGRAM), str(checkpoint), *options], {"HF_HUB_OFFLINE": "1"}) as server:
        yield server
