"""The table of engines: the only file of the server that names them."""

from __future__ import annotations

from bertserve.bundle import Bundle
from bertserve.engine.contract import Engine, LanePlan, LaneWishes, Runtime
from bertserve.engine.ort.runtime import OrtRuntime

RUNTIMES: dict[str, Runtime] = {"ort": OrtRuntime()}
DEFAULT_RUNTIME = "ort"


def plan_lanes(cores: int, wishes: LaneWishes, runtime: str = DEFAULT_RUNTIME) -> LanePlan:
    """How an engine of this kind is driven on so many cores."""
    return RUNTIMES[runtime].plan(cores, wishes)


def open_engine(bundle: Bundle, threads: int, runtime: str = DEFAULT_RUNTIME) -> Engine:
    """Load a bundle into an engine of this kind. threads: of one run. Raises BundleError."""
    return RUNTIMES[runtime].open(bundle, threads)
