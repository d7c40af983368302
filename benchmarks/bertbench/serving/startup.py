"""How long a server takes to become ready, beside the time that reading the files and creating the session take."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bertserve.bundle import Bundle

from bertbench.serving.server_process import serving

LOAD = "from bertbench.serving.startup import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """Seconds, once a round: from the process's start to its being ready, and of reading and loading alone."""

    ready: tuple[float, ...]
    load: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return median(self.ready) / median(self.load)


def measure_startup(bundle: Bundle, flags: Sequence[str], rounds: int = 5) -> Startup:
    """Both in turn, each in a process of its own, once the files are in the page cache, and all code is compiled, as
    installers and images leave it."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}

        def load_alone() -> float:
            command = [sys.executable, "-c", LOAD, str(bundle.path)]
            done = subprocess.run(  # noqa: S603 (ours)
                command, capture_output=True, text=True, check=True, env={**os.environ, **environment}
            )
            return float(done.stdout)

        def serve() -> float:
            with serving(bundle.path, *flags, environment=environment) as server:
                return server.ready_seconds

        load_alone(), serve()
        turns = [(load_alone(), serve()) for _ in range(rounds)]
    return Startup(ready=tuple(ready for _, ready in turns), load=tuple(load for load, _ in turns))


def main() -> None:
    """Print the seconds that reading a bundle's files and creating its session take; imports are not counted."""
    from bertserve.bundle import MANIFEST_NAME, Manifest
    from bertserve.engine.ort.session import OrtEngine

    path = Path(sys.argv[1])
    began = time.monotonic()
    content = {file.name: file.read_bytes() for file in path.iterdir()}
    OrtEngine(Bundle(path=path, manifest=Manifest.model_validate_json(content[MANIFEST_NAME])), 1)
    print(time.monotonic() - began)  # noqa: T201 (the process's result)
