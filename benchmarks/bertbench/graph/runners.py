"""What runs batches: the seam between what is measured and how. Here the bundle itself, through the server's engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from bertserve.bundle import Bundle, ModelFacts
from bertserve.engine.contract import Engine
from bertserve.engine.items import Item, Wanted
from bertserve.engine.opening import open_engine

SEED = 7


class Runner(Protocol):
    """Loaded and ready to run batches, from several threads at once."""

    def prepare(self, lengths: Sequence[int]) -> Callable[[], object]:
        """What runs one batch of texts of these lengths; making up the texts is not its part."""


class Kind(StrEnum):
    """What a contestant stands for."""

    GRAPH = "graph"
    CEILING = "ceiling"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Something that is measured. load: makes its runner with so many threads a run."""

    name: str
    kind: Kind
    precision: str
    load: Callable[[int], Runner]


class Task(StrEnum):
    """What is asked of every text."""

    EMBEDDING = "embedding"
    MASKED_WORD = "masked word"
    NEXT_SENTENCE = "next sentence"


class PackedRunner:
    """A bundle in the server's engine. A run packs, runs and unpacks, as a lane does."""

    def __init__(self, engine: Engine, task: Task = Task.EMBEDDING) -> None:
        self._engine = engine
        self._task = task

    def prepare(self, lengths: Sequence[int]) -> Callable[[], object]:
        model = self._engine.bundle.model
        rng = np.random.default_rng(SEED)
        items = [make_item(rng, model, length, self._task) for length in lengths]
        return lambda: self._engine.run_items(items)


def graph_contestant(bundle: Bundle) -> Contestant:
    return Contestant(
        name=f"{bundle.path.name} {bundle.model.precision}",
        kind=Kind.GRAPH,
        precision=bundle.model.precision,
        load=lambda threads: PackedRunner(open_engine(bundle, threads)),
    )


def make_item(rng: np.random.Generator, model: ModelFacts, length: int, task: Task) -> Item:
    """A text of random tokens. Masked word: one mask in its middle, the five likeliest tokens."""
    match task:
        case Task.EMBEDDING:
            wanted = Wanted(layers=(model.layer_count,))
        case Task.MASKED_WORD:
            wanted = Wanted(mask_positions=(length // 2,), top_k=5)
        case Task.NEXT_SENTENCE:
            wanted = Wanted(next_sentence=True)
    ids = rng.integers(0, model.vocabulary_size, length, dtype=np.int64)
    return Item(input_ids=ids, token_type_ids=np.zeros(length, dtype=np.int64), wanted=wanted)
