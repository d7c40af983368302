"""From bundle directories to served models: check, load, prove, measure. What fails here never becomes ready."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bertserve.batching.admission import Speed
from bertserve.bundle import check_hashes, open_bundle
from bertserve.engine.golden import prove_golden, read_golden
from bertserve.engine.session import Engine
from bertserve.models import ServedModel
from bertserve.tokenizer import Tokenizer


def load_model(name: str, path: Path, lane_threads: int) -> ServedModel:
    """A bundle whose hashes hold, whose graph loads, and whose golden outputs this machine reproduces.

    Raises BundleError.
    """
    bundle = open_bundle(path)
    with ThreadPoolExecutor(1) as beside:
        checking = beside.submit(check_hashes, bundle)
        try:
            engine = Engine(bundle, lane_threads)
        finally:
            # Even where the graph did not load: a changed file says why.
            checking.result()
    golden = tuple(read_golden(bundle.golden_path))
    prove_golden(engine, golden)
    tokenizer = Tokenizer(bundle.tokenizer_path, bundle.model)
    return ServedModel(name=name, bundle=bundle, tokenizer=tokenizer, engine=engine, golden=golden)


def measure_speed(model: ServedModel) -> Speed:
    """A first measurement of one lane, on the longest golden input, once it has run before.

    One is enough to begin with, for live batches correct the figure, and all would double the proof's time.
    """
    batch = model.engine.pack([max((case.item for case in model.golden), key=lambda item: item.length)])
    started = time.monotonic()
    model.engine.run(batch)
    return Speed(tokens=batch.token_count, seconds=max(time.monotonic() - started, 1e-6))
