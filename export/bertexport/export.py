"""The export itself, step by step: read, build, verify against PyTorch, record, and only then give the bundle its name.

Whatever stops a step leaves nothing behind.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Protocol

from bertserve.bundle import (
    GOLDEN_NAME,
    GRAPH_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
    Bundle,
    BundleError,
    Head,
    Manifest,
    ModelFacts,
    Source,
    SpecialTokens,
    bundle_identity,
    read_bundle,
    record_files,
    write_manifest,
)
from bertserve.engine.golden import check_golden, write_golden
from bertserve.engine.session import Engine
from bertserve.tokenizer import Tokenizer

from bertexport.architecture import Architecture, Weights, read_architecture, select_weights
from bertexport.checkpoint import Checkpoint, read_checkpoint
from bertexport.errors import ExportError
from bertexport.golden_cases import choose_golden, make_cases
from bertexport.graph import build_graph
from bertexport.inputs import fill_gaps, make_items, read_texts
from bertexport.location import Location, locate
from bertexport.nodes import OPSET
from bertexport.reference import load_reference
from bertexport.report import Operators, Report, check_operators, count_operators, write_report
from bertexport.sentence_files import SentenceFiles, read_sentence_files
from bertexport.staging import remove_abandoned, staged_directory
from bertexport.tokenizer_files import read_special_tokens, read_tokenizer, save_tokenizer
from bertexport.verification import Outputs, Verdict, judge, run_both

# Instruction sets round differently, by about 1e-5 in deep models; a wrong kernel is off by far more.
GOLDEN_TOLERANCE = {"fp32": 1e-3}
NAMES_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """model: local directory or hub id. verify: a file of texts instead of the built-in ones. force: replace output."""

    model: str
    output: Path
    precision: str = "fp32"
    revision: str | None = None
    verify: Path | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What the closing table shows."""

    manifest: Manifest
    verdict: Verdict
    operators: Operators
    notes: tuple[str, ...]


class Progress(Protocol):
    """Shows steps as they run."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Callable[[], None]]:
        """Enter a step of `total` parts, of unknown number where None; the value advances it by one."""


def export_checkpoint(request: ExportRequest, progress: Progress) -> ExportResult:
    """Write a complete and verified bundle. Raises ExportError or BundleError and leaves nothing behind."""
    with staged_directory(request.output, replace=request.force) as staging:
        for folder in remove_abandoned(request.output.resolve().parent):
            with progress.step(f"Removed {folder}, left by an export that was killed"):
                pass
        with progress.step("Find the checkpoint"):
            location = locate(request.model, request.revision)
            sentence = read_sentence_files(location.path)
        with progress.step("Read weights and settings"):
            checkpoint = read_checkpoint(sentence.directory)
            architecture = read_architecture(checkpoint)
        with progress.step("Read the tokenizer"):
            tokenizer = read_tokenizer(checkpoint.directory, architecture.vocabulary_size)
            special_tokens = read_special_tokens(checkpoint.directory, tokenizer)
            save_tokenizer(tokenizer, staging / TOKENIZER_NAME)
            architecture, notes = _leave_out_unusable(architecture, special_tokens)
            facts = _describe_model(request, checkpoint, architecture, sentence, special_tokens)
        with progress.step("Write the graph"):
            weights = select_weights(checkpoint, architecture)
            build_graph(weights, architecture, staging)
            manifest = _draft_manifest(staging, facts, location, checkpoint)
        with progress.step("Load the graph as the server does"):
            engine, operators = _open_engine(Bundle(path=staging, manifest=manifest))
        with progress.step("Load the checkpoint in PyTorch"):
            reference = load_reference(checkpoint.directory, weights, architecture.heads)
            served_tokenizer = Tokenizer(staging / TOKENIZER_NAME, facts)
            built_in = make_items(served_tokenizer, read_texts(None), architecture)
            asked = make_items(served_tokenizer, read_texts(request.verify), architecture)
            items, gaps = fill_gaps(asked, built_in, architecture.heads)
        with progress.step("Verify against PyTorch", len(items)) as advance:
            outputs = run_both(engine, reference, items, advance)
            verdict = _pass_gates(outputs, facts)
        with progress.step("Write golden outputs and report"):
            write_golden(staging / GOLDEN_NAME, make_cases(engine, reference, choose_golden(built_in)))
            notes = (*notes, *_note_unused(weights), *_note_gaps(gaps))
            manifest = _record(staging, manifest, verdict, operators, notes)
        with progress.step("Check the bundle as the server does"):
            del engine, reference
            check_golden(Engine(read_bundle(staging), _threads()))
    return ExportResult(manifest=manifest, verdict=verdict, operators=operators, notes=notes)


def _record(staging: Path, draft: Manifest, verdict: Verdict, operators: Operators, notes: tuple[str, ...]) -> Manifest:
    """Write the report, then the manifest, which holds the hash of every other file."""
    files = record_files(staging)
    write_report(Report(manifest=draft, verdict=verdict, operators=operators, files=files, notes=notes), staging)
    manifest = draft.model_copy(update={"files": record_files(staging), "accuracy": verdict.figures})
    write_manifest(staging, manifest)
    return manifest


def _leave_out_unusable(
    architecture: Architecture, special_tokens: SpecialTokens
) -> tuple[Architecture, tuple[str, ...]]:
    """Without the head for masked words where no text can hold a mask, and a note that says so."""
    if special_tokens.mask is not None or Head.MASKED_LM not in architecture.heads:
        return architecture, ()
    heads = tuple(head for head in architecture.heads if head is not Head.MASKED_LM)
    return replace(architecture, heads=heads), ("Left out the head masked_lm: the tokenizer has no mask token.",)


def _describe_model(
    request: ExportRequest,
    checkpoint: Checkpoint,
    architecture: Architecture,
    sentence: SentenceFiles,
    special_tokens: SpecialTokens,
) -> ModelFacts:
    positions = architecture.position_limit - checkpoint.family.position_offset
    return ModelFacts(
        family=checkpoint.family.name,
        heads=architecture.heads,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        layer_count=architecture.layer_count,
        attention_heads=architecture.attention_heads,
        activation=architecture.activation,
        layer_norm_epsilon=architecture.layer_norm_epsilon,
        vocabulary_size=architecture.vocabulary_size,
        segment_count=architecture.segment_count,
        position_limit=architecture.position_limit,
        position_offset=checkpoint.family.position_offset,
        max_tokens=min(positions, sentence.max_tokens or positions),
        precision=request.precision,
        opset=OPSET,
        labels=architecture.labels,
        problem_type=architecture.problem_type,
        default_pooling=sentence.pooling,
        default_normalize=sentence.normalize,
        special_tokens=special_tokens,
    )


def _draft_manifest(staging: Path, facts: ModelFacts, location: Location, checkpoint: Checkpoint) -> Manifest:
    """Already with its identity, which golden outputs and reports are no part of."""
    files = record_files(staging)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        bundle_id=bundle_identity(facts, files),
        producer=f"bertexport {metadata.version('bertserve')}",
        source=Source(
            model=location.name,
            revision=location.revision,
            architecture=checkpoint.architecture,
            weights_sha256=checkpoint.weights_sha256,
        ),
        model=facts,
        files=files,
        golden_tolerance=GOLDEN_TOLERANCE[facts.precision],
        accuracy={},
    )


def _open_engine(bundle: Bundle) -> tuple[Engine, Operators]:
    """Load the graph, and look at what the session made of it."""
    with tempfile.TemporaryDirectory(dir=bundle.path) as folder:
        optimized = Path(folder) / GRAPH_NAME
        try:
            engine = Engine(bundle, _threads(), optimized)
        except BundleError:
            # Either the graph cannot be loaded, or what the session makes of it cannot be written.
            Engine(bundle, _threads())
            raise ExportError(
                "ONNX Runtime cannot write the graph as it runs it beside the bundle; is there space left?"
            ) from None
        operators = Operators(exported=count_operators(bundle.graph_path), optimized=count_operators(optimized))
    check_operators(operators, bundle.model.layer_count)
    return engine, operators


def _pass_gates(outputs: list[Outputs], facts: ModelFacts) -> Verdict:
    verdict = judge(outputs, facts.precision, facts.heads)
    if verdict.failures:
        raise ExportError(f"the bundle is not shown to agree with PyTorch: {'; '.join(verdict.failures)}")
    return verdict


def _note_unused(weights: Weights) -> tuple[str, ...]:
    """What the checkpoint holds and the bundle does not."""
    if not weights.unused:
        return ()
    more = len(weights.unused) - NAMES_SHOWN
    names = ", ".join(weights.unused[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return (f"Left out, since no supported head reads them: {names}.",)


def _note_gaps(gaps: list[Head]) -> tuple[str, ...]:
    if not gaps:
        return ()
    names = ", ".join(head.value for head in gaps)
    return (f"Verified on built-in texts, since the given ones do not ask for it: {names}.",)


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
