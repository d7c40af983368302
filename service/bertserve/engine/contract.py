"""The contract of every engine: what batching, supervision, loading and tuning know of it.

A second engine is a package beside `ort` with a `Runtime` of its own, and a line in `engine.opening`. An engine derives
from `Engine`, so that the type checker finds what it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bertserve.bundle import Bundle
from bertserve.engine.items import Item, ItemOutputs
from bertserve.engine.packing import PackedBatch


class RunStop:
    """Asks one run to end, from any thread. A request is never taken back, so every run needs its own stop."""

    def __init__(self) -> None:
        self.is_requested = False
        self._end: Callable[[], None] | None = None

    def request(self) -> None:
        """Ask the run to end. A run that starts later ends at once."""
        self.is_requested = True
        if (end := self._end) is not None:
            end()

    def on_request(self, end: Callable[[], None]) -> None:
        """Let `end` be called when the request comes, or now if it came before.

        The engine calls this before its run. `end` runs on the thread of the request. It may be called twice if both
        happen at the same moment.
        """
        self._end = end
        if self.is_requested:
            end()


class Engine(Protocol):
    """A bundle ready to run. `run` may be called from several threads at once."""

    #: The bundle that it runs, with the model's facts and the golden outputs.
    bundle: Bundle

    def pack(self, items: Sequence[Item]) -> PackedBatch:
        """Lay items out for `run`. At least one item, each with at least one token."""
        ...

    def run(self, batch: PackedBatch, stop: RunStop | None = None) -> list[ItemOutputs]:
        """Run a batch. Return the outputs in the order of its items.

        stop: ends the run as soon as the engine can. Raises any exception if the run fails or is ended.
        """
        ...

    def estimate_run_bytes(self, tokens: int) -> int:
        """Memory that a run of one text of so many tokens takes beside the weights, in bytes."""
        ...

    def estimate_largest_run_bytes(self, longest_text: int, batch_tokens: int) -> int:
        """Memory of the largest run, in bytes: batches of at most batch_tokens, or one text of longest_text tokens."""
        ...

    def run_items(self, items: Sequence[Item]) -> list[ItemOutputs]:
        """Pack and run. Raises as `run`."""
        return self.run(self.pack(items))


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneWishes:
    """What the operator asks for. None leaves the choice to the engine; the fields are those of `LanePlan`."""

    lanes: int | None = None
    lane_threads: int | None = None
    batch_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePlan:
    """How an engine is driven."""

    #: Batches that run at the same time.
    lanes: int
    #: Threads of one run.
    lane_threads: int
    #: Budget of a batch in tokens. Only one longer text exceeds it.
    batch_tokens: int


class Runtime(Protocol):
    """A kind of engine."""

    def plan(self, cores: int, wishes: LaneWishes) -> LanePlan:
        """The plan for a machine with so many free cores. A wish always holds."""
        ...

    def open(self, bundle: Bundle, threads: int) -> Engine:
        """Load a bundle. threads: of one run. Raises BundleError."""
        ...
