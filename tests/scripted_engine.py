"""An engine of known behaviour at the seam, and requests to a batcher of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
from bertserve.batching.batcher import Batcher
from bertserve.bundle import read_bundle
from bertserve.engine.contract import Engine, RunStop
from bertserve.engine.items import Item, ItemOutputs, Wanted
from bertserve.engine.packing import PackedBatch, pack
from bertserve.observe.metrics import Metrics
from servers import PRETRAINING

POISON = 99
BATCH_TOKENS = 32
QUEUE_TOKENS = 200


class ScriptedEngine(Engine):
    """Answers each item with its first id; raises where an item holds POISON; runs only while its gate is open.

    unpackable: an id that cannot be packed. most_items: beyond so many in a batch, the run raises `error`.
    """

    def __init__(self) -> None:
        self.bundle = read_bundle(PRETRAINING)
        self.unpackable = -1
        self.most_items = 1000
        self.error: Exception = MemoryError()
        self.gate = threading.Event()
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)

    def pack(self, items: Sequence[Item]) -> PackedBatch:
        if any(self.unpackable in item.input_ids for item in items):
            raise MemoryError
        return pack(items, position_offset=0)

    def run(self, batch: PackedBatch, stop: RunStop | None = None) -> list[ItemOutputs]:  # noqa: ARG002
        self.batches.append([int(item.input_ids[0]) for item in batch.items])
        self.entered.release()
        assert self.gate.wait(timeout=30)
        if any(POISON in item.input_ids for item in batch.items):
            raise RuntimeError("poisoned")
        if len(batch.items) > self.most_items:
            raise self.error
        return [ItemOutputs(pooled=item.input_ids[:1].astype(np.float32)) for item in batch.items]

    def estimate_run_bytes(self, tokens: int) -> int:
        return tokens

    def estimate_largest_run_bytes(self, longest_text: int, batch_tokens: int) -> int:
        return max(longest_text, batch_tokens)

    def wait_until_entered(self) -> None:
        assert self.entered.acquire(timeout=30)


def item(number: int, tokens: int = 4) -> Item:
    ids = np.full(tokens, number, dtype=np.int64)
    return Item(input_ids=ids, token_type_ids=ids * 0, wanted=Wanted(pooler=True))


def read_number(index: int, outputs: ItemOutputs) -> int:  # noqa: ARG001
    assert outputs.pooled is not None
    return int(outputs.pooled[0])


def ask(
    batcher: Batcher, *items: Item, deadline: float | None = None, in_stream: bool = False
) -> asyncio.Task[list[int]]:
    """Send a request, and let it reach the queue."""

    async def run() -> list[int]:
        completed = await batcher.run("m", items, deadline, read_number, in_stream=in_stream)
        return list(completed.results)

    return asyncio.create_task(run())


async def fill_lane(batcher: Batcher, engine: ScriptedEngine) -> list[asyncio.Task[list[int]]]:
    """Two requests: one runs, one is packed and ready behind it. What comes now waits in the queue."""
    first = ask(batcher, item(1, BATCH_TOKENS))
    await asyncio.sleep(0)
    await asyncio.to_thread(engine.wait_until_entered)
    second = ask(batcher, item(2, BATCH_TOKENS))
    await asyncio.sleep(0)
    return [first, second]


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    value = metrics.registry.get_sample_value(name, {"model": "m", **labels})
    assert value is not None, name
    return value
