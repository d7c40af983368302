"""A batch on its way. The lane that takes it leaves out what has ended meanwhile, and finishes its items."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from bertserve.batching.line import Entry
from bertserve.engine.contract import Engine
from bertserve.engine.items import ItemOutputs
from bertserve.engine.lanes import BatchResult
from bertserve.engine.packing import PackedBatch


@dataclass(slots=True, eq=False)
class Flight:
    """Packed where it is made; `take` and `finish` run on the lane. started: when it was taken, by `time.monotonic`.

    left_out: what had ended by then.
    """

    engine: Engine
    entries: list[Entry]
    started: float | None = None
    left_out: list[Entry] = field(default_factory=list)
    packed: PackedBatch = field(init=False)

    def __post_init__(self) -> None:
        self.packed = self.engine.pack([entry.item for entry in self.entries])

    def take(self) -> PackedBatch | None:
        self.started = time.monotonic()
        live = [entry for entry in self.entries if entry.request.is_live]
        if len(live) < len(self.entries):
            self.left_out = [entry for entry in self.entries if entry not in live]
            self.entries = live
            if live:
                self.packed = self.engine.pack([entry.item for entry in live])
        return self.packed if live else None

    def finish(self, result: BatchResult) -> BatchResult:
        """Results in place of outputs, item by item, so that nothing holds the outputs of whole batches any longer."""
        outcomes = [_finish(entry, outcome) for entry, outcome in zip(self.entries, result.outcomes, strict=True)]
        return replace(result, outcomes=tuple(outcomes))


def _finish(entry: Entry, outcome: ItemOutputs | Exception) -> Any:
    if isinstance(outcome, Exception) or not entry.request.is_live:
        return outcome
    try:
        return entry.request.finish(entry.index, outcome)
    except Exception as error:  # a bug, or no memory: it fails alone
        return error
