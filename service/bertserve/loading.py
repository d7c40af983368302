"""From bundle directories to served models: check, load, prove, measure. What fails here never becomes ready."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bertserve.batching.admission import Speed
from bertserve.bundle import TOKENIZER_NAME, Bundle, check_hashes, open_bundle
from bertserve.engine.golden import prove_golden, read_golden
from bertserve.engine.opening import open_engine
from bertserve.models import ServedModel
from bertserve.process.memory import resident_bytes
from bertserve.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShortage:
    """A memory limit below what the served models may need."""

    limit_bytes: int
    needed_bytes: int


def load_models(paths: Mapping[str, Path], lane_threads: int) -> list[ServedModel]:
    """Bundles by name, in order. Those with the same tokenizer share it: large ones take 300 MB. Raises BundleError."""
    models: list[ServedModel] = []
    for name, path in paths.items():
        models.append(load_model(name, path, lane_threads, models))
    return models


def load_model(name: str, path: Path, lane_threads: int, loaded: Sequence[ServedModel] = ()) -> ServedModel:
    """A bundle whose hashes hold, whose graph loads, and whose golden outputs this machine reproduces.

    loaded: models whose tokenizers it may share.

    Raises BundleError.
    """
    resident_before = resident_bytes()
    bundle = open_bundle(path)
    with ThreadPoolExecutor(1) as beside:
        checking = beside.submit(check_hashes, bundle)
        try:
            engine = open_engine(bundle, lane_threads)
        finally:
            # Even where the graph did not load: a changed file says why.
            checking.result()
    golden = tuple(read_golden(bundle.golden_path))
    prove_golden(engine, golden)
    same = (model.tokenizer for model in loaded if _have_same_tokenizer(model.bundle, bundle))
    tokenizer = next((other.share(bundle.model) for other in same), None)
    if tokenizer is None:
        tokenizer = Tokenizer(bundle.tokenizer_path, bundle.model)
    return ServedModel(
        name=name,
        bundle=bundle,
        tokenizer=tokenizer,
        engine=engine,
        golden=golden,
        loaded_bytes=max(0, resident_bytes() - resident_before),
        longest_text_bytes=engine.estimate_run_bytes(bundle.model.max_tokens),
    )


def find_memory_shortage(
    models: Sequence[ServedModel], limit_bytes: int | None, lane_count: int, *, queue_tokens: int, batch_tokens: int
) -> MemoryShortage | None:
    """The memory needed when every lane runs the largest batch that may come, if the limit is lower.

    limit_bytes: of the loaded process, None without a limit. Texts longer than queue_tokens never come to a lane.
    """
    largest = max(
        model.engine.estimate_largest_run_bytes(
            min(model.facts.max_tokens, queue_tokens), min(batch_tokens, queue_tokens)
        )
        for model in models
    )
    needed = resident_bytes() + lane_count * largest
    if limit_bytes is None or needed <= limit_bytes:
        return None
    return MemoryShortage(limit_bytes=limit_bytes, needed_bytes=needed)


def _have_same_tokenizer(one: Bundle, other: Bundle) -> bool:
    """By the files' checked hashes. A literal mask is added by the special tokens, up to the vocabulary's size."""
    return (
        one.manifest.files[TOKENIZER_NAME].sha256 == other.manifest.files[TOKENIZER_NAME].sha256
        and one.model.special_tokens == other.model.special_tokens
        and one.model.vocabulary_size == other.model.vocabulary_size
    )


def measure_speed(model: ServedModel) -> Speed:
    """A first measurement of one lane, on the longest golden input, once it has run before.

    One is enough to begin with, for live batches correct the figure, and all would double the proof's time.
    """
    batch = model.engine.pack([max((case.item for case in model.golden), key=lambda item: item.length)])
    started = time.monotonic()
    model.engine.run(batch)
    return Speed(tokens=batch.token_count, seconds=max(time.monotonic() - started, 1e-6))
