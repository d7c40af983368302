"""A graph on trial: written, loaded as the server loads it, and measured against PyTorch."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bertserve.bundle import (
    GRAPH_NAME,
    SCHEMA_VERSION,
    Bundle,
    BundleError,
    Manifest,
    ProblemType,
    Source,
    bundle_identity,
    record_files,
)
from bertserve.engine.ort.session import Engine

from bertexport.errors import ExportError
from bertexport.graph.precision.contract import Precision
from bertexport.graph.writer import build_graph
from bertexport.proof.reference import Expected
from bertexport.proof.report import Operators, check_operators, count_operators
from bertexport.proof.threads import count_threads
from bertexport.proof.verification import Verdict, judge, run_engine
from bertexport.request import Progress
from bertexport.source.reader import SourceModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A graph, loaded as the server loads it, and how close it comes to PyTorch."""

    manifest: Manifest
    engine: Engine
    operators: Operators
    verdict: Verdict


def build_trial(
    staging: Path, source: SourceModel, expected: list[Expected], progress: Progress, precision: Precision
) -> Trial:
    """Write the graph, load it, and measure it."""
    facts = source.facts
    with progress.step("Write the graph"):
        build_graph(source.weights, source.architecture, staging, precision)
        draft = _draft_manifest(staging, source, precision)
    with progress.step("Load the graph as the server does"):
        engine, operators = _open_engine(Bundle(path=staging, manifest=draft))
    with progress.step("Compare with PyTorch", len(expected)) as advance:
        outputs = run_engine(engine, expected, advance)
        # A score alone ranks texts, so it is judged as the number that it is.
        problem_type = ProblemType.REGRESSION if len(facts.labels) == 1 else facts.problem_type
        verdict = judge(outputs, precision.gates, facts.heads, problem_type)
    return Trial(manifest=draft, engine=engine, operators=operators, verdict=verdict)


def _draft_manifest(staging: Path, source: SourceModel, precision: Precision) -> Manifest:
    """Already with its identity, which golden outputs and reports are no part of."""
    facts, files = source.facts, record_files(staging)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        bundle_id=bundle_identity(facts, files),
        producer=f"bertexport {metadata.version('bertserve')}",
        source=Source(
            model=source.location.name,
            revision=source.location.revision,
            architecture=source.checkpoint.architecture,
            weights_sha256=source.checkpoint.weights_sha256,
        ),
        model=facts,
        files=files,
        golden_tolerance=precision.golden_tolerance,
        accuracy={},
    )


def _open_engine(bundle: Bundle) -> tuple[Engine, Operators]:
    """Load the graph, and look at what the session made of it."""
    with tempfile.TemporaryDirectory(dir=bundle.path) as folder:
        optimized = Path(folder) / GRAPH_NAME
        try:
            engine = Engine(bundle, count_threads(), optimized)
        except BundleError:
            # Either the graph cannot be loaded, or what the session makes of it cannot be written.
            Engine(bundle, count_threads())
            raise ExportError(
                "ONNX Runtime cannot write the graph as it runs it beside the bundle; is there space left?"
            ) from None
        operators = Operators(exported=count_operators(bundle.graph_path), optimized=count_operators(optimized))
    check_operators(operators, bundle.model.layer_count)
    return engine, operators
