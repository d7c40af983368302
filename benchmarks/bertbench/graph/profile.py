"""Where a graph's time goes: ONNX Runtime's own profile of one lane of one thread, added up by operator."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bertserve.bundle import Bundle
from bertserve.engine.ort.session import SLOW_FUSIONS, session_options
from bertserve.engine.packing import pack
from rich.table import Table

# After the engine, which switches its telemetry off.
import onnxruntime as ort  # isort: skip

from bertbench.graph.runners import SEED, Task, make_item
from bertbench.graph.shapes import SENTENCES, cut_batches, fit_shapes

# How often the sentences are run after the first time, which allocates and is left out.
PASSES = 5
GEMM_OPERATORS = frozenset(
    {"MatMul", "Gemm", "FusedGemm", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorShare:
    """An operator's own time, that of nodes inside it left out. share: of all operators' time."""

    operator: str
    calls: int
    seconds: float
    share: float


def profile_bundle(bundle: Bundle, batch_tokens: int) -> list[OperatorShare]:
    """Run sentences in batches of the budget; the costliest operator first."""
    with tempfile.TemporaryDirectory() as directory:
        options = session_options(1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(directory) / "profile")
        session = ort.InferenceSession(
            str(bundle.graph_path), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
        )
        rng, model = np.random.default_rng(SEED), bundle.model
        (sentences,) = fit_shapes([SENTENCES], model.max_tokens)
        inputs = {node.name for node in session.get_inputs()}
        batches = [
            pack([make_item(rng, model, length, Task.EMBEDDING) for length in lengths], model.position_offset)
            for lengths in cut_batches(sentences, batch_tokens)
        ]
        for batch in [*batches] * (PASSES + 1):
            session.run(list(batch.fetches), {name: rows for name, rows in batch.feeds.items() if name in inputs})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return add_up(events, skipped_runs=len(batches))


def add_up(events: Sequence[Mapping[str, Any]], skipped_runs: int) -> list[OperatorShare]:
    """Own time by operator, from a profile in the form of Chrome's trace events; the first runs are left out."""
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    begin = runs[skipped_runs]
    nodes = [event for event in events if event.get("cat") == "Node" and event["ts"] >= begin and _is_kernel(event)]
    seconds: dict[str, float] = {}
    calls: dict[str, int] = {}
    for event, own in own_times(nodes):
        operator = event["args"]["op_name"]
        seconds[operator] = seconds.get(operator, 0.0) + own / 1e6
        calls[operator] = calls.get(operator, 0) + 1
    total = sum(seconds.values())
    return [
        OperatorShare(operator=operator, calls=calls[operator], seconds=spent, share=spent / total)
        for operator, spent in sorted(seconds.items(), key=lambda pair: -pair[1])
    ]


def own_times(events: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
    """Each event with its duration less that of the events inside it, in microseconds; all of one thread."""
    ordered = sorted(events, key=lambda event: (event["ts"], -event["dur"]))
    own = [float(event["dur"]) for event in ordered]
    around: list[int] = []
    for index, event in enumerate(ordered):
        while around and ordered[around[-1]]["ts"] + ordered[around[-1]]["dur"] <= event["ts"]:
            around.pop()
        if around:
            own[around[-1]] -= event["dur"]
        around.append(index)
    return list(zip(ordered, own, strict=True))


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return bool(event["name"].endswith("_kernel_time"))


def profile_table(name: str, shares: Sequence[OperatorShare]) -> Table:
    """The operators, and what all matrix products take together."""
    products = sum(share.share for share in shares if share.operator in GEMM_OPERATORS)
    title = f"{name}: time by operator, one thread, {SENTENCES.name}; matrix products {products:.1%}"
    table = Table(title=title, title_justify="left", show_edge=False)
    for header in ("operator", "calls", "ms", "share"):
        table.add_column(header, justify="left" if header == "operator" else "right")
    for share in shares:
        table.add_row(share.operator, f"{share.calls:,}", f"{share.seconds * 1e3:,.1f}", f"{share.share:.1%}")
    return table
