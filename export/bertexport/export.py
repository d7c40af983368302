"""The export itself, step by step: read, build, verify against PyTorch, record, and only then give the bundle its name.

Whatever stops a step leaves nothing behind.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
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
from bertexport.calibration import plan_int8, rank_parts
from bertexport.checkpoint import Checkpoint, read_checkpoint
from bertexport.errors import ExportError
from bertexport.fitting import Fit, fit_int8
from bertexport.golden_cases import choose_golden, expect_golden, make_cases
from bertexport.graph import build_graph
from bertexport.inputs import fill_gaps, make_items, read_texts
from bertexport.location import Location, locate
from bertexport.nodes import OPSET
from bertexport.quantization import Int8Plan
from bertexport.reference import Expected, Reference, expect, load_reference
from bertexport.report import Operators, Report, check_operators, count_operators, write_report
from bertexport.sentence_files import SentenceFiles, read_sentence_files
from bertexport.staging import remove_abandoned, staged_directory
from bertexport.tokenizer_files import read_special_tokens, read_tokenizer, save_tokenizer
from bertexport.verification import Verdict, judge, run_engine

# Instruction sets round differently, by about 1e-5 in deep models; a wrong kernel is off by far more.
# In int8 a difference that small may fall on either side of a step.
GOLDEN_TOLERANCE = {"fp32": 1e-3, "int8": 5e-2}
NAMES_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """model: local directory or hub id. precision: fp32 or int8. verify, calibration: files of texts instead of the
    built-in ones. allow_accuracy_loss: write a bundle that misses its gates, in int8 throughout. force: replace output.
    """

    model: str
    output: Path
    precision: str = "fp32"
    revision: str | None = None
    verify: Path | None = None
    calibration: Path | None = None
    allow_accuracy_loss: bool = False
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is exported: the checkpoint as it was read, and the facts that its bundle will state."""

    location: Location
    checkpoint: Checkpoint
    architecture: Architecture
    weights: Weights
    facts: ModelFacts
    tokenizer: Tokenizer
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A graph, loaded as the server loads it, and how close it comes to PyTorch."""

    manifest: Manifest
    engine: Engine
    operators: Operators
    verdict: Verdict


def export_checkpoint(request: ExportRequest, progress: Progress) -> ExportResult:
    """Write a complete and verified bundle. Raises ExportError or BundleError and leaves nothing behind."""
    with staged_directory(request.output, replace=request.force) as staging:
        for folder in remove_abandoned(request.output.resolve().parent):
            with progress.step(f"Removed {folder}, left by an export that was killed"):
                pass
        source = _read_source(request, staging, progress)
        with progress.step("Load the checkpoint in PyTorch"):
            reference = load_reference(source.checkpoint.directory, source.weights, source.architecture.heads)
            built_in = make_items(source.tokenizer, read_texts(None), source.architecture)
            asked = make_items(source.tokenizer, read_texts(request.verify), source.architecture)
            items, gaps = fill_gaps(asked, built_in, source.architecture.heads)
        with progress.step("Run it in PyTorch", len(items)) as advance:
            expected = [expect(reference, item, advance) for item in items]
            golden = expect_golden(reference, choose_golden(built_in))
        build = partial(_build, staging, source, expected, progress)
        if request.precision == "int8":
            trial, notes = _build_int8(request, source, reference, build, progress)
        else:
            # As large as the checkpoint, and no longer needed.
            del reference
            trial, notes = build(None), ()
        _pass_gates(trial.verdict, allow_loss=request.allow_accuracy_loss)
        with progress.step("Write golden outputs and report"):
            write_golden(staging / GOLDEN_NAME, make_cases(trial.engine, golden))
            notes = (*source.notes, *notes, *_note_unused(source.weights), *_note_gaps(gaps))
            manifest = _record(staging, trial, notes)
            result = ExportResult(manifest=manifest, verdict=trial.verdict, operators=trial.operators, notes=notes)
        with progress.step("Check the bundle as the server does"):
            # The first engine's weights need not lie in memory beside the second's.
            del trial
            check_golden(Engine(read_bundle(staging), _threads()))
    return result


def _read_source(request: ExportRequest, staging: Path, progress: Progress) -> _Source:
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
    return _Source(
        location=location,
        checkpoint=checkpoint,
        architecture=architecture,
        weights=select_weights(checkpoint, architecture),
        facts=facts,
        tokenizer=Tokenizer(staging / TOKENIZER_NAME, facts),
        notes=notes,
    )


def _build(
    staging: Path, source: _Source, expected: list[Expected], progress: Progress, plan: Int8Plan | None
) -> _Trial:
    """Write the graph, load it, and measure it."""
    facts = source.facts
    with progress.step("Write the graph"):
        build_graph(source.weights, source.architecture, staging, plan)
        draft = _draft_manifest(staging, facts, source.location, source.checkpoint)
    with progress.step("Load the graph as the server does"):
        engine, operators = _open_engine(Bundle(path=staging, manifest=draft))
    with progress.step("Compare with PyTorch", len(expected)) as advance:
        outputs = run_engine(engine, expected, advance)
        verdict = judge(outputs, facts.precision, facts.heads, facts.problem_type)
    return _Trial(manifest=draft, engine=engine, operators=operators, verdict=verdict)


def _build_int8(
    request: ExportRequest,
    source: _Source,
    reference: Reference,
    build: Callable[[Int8Plan], _Trial],
    progress: Progress,
) -> tuple[_Trial, tuple[str, ...]]:
    """All in int8 where that passes the gates or nobody minds; else with the costliest parts kept, and a note."""
    with progress.step("Calibrate"):
        texts = read_texts(request.calibration, "calibration")
        items = make_items(source.tokenizer, texts, source.architecture)
        plan = plan_int8(reference, source.weights, source.architecture, items)
    if request.allow_accuracy_loss:
        return build(plan), ()

    def rank() -> dict[str, float]:
        with progress.step("See what each part costs in int8"):
            return rank_parts(reference, source.weights, source.architecture, plan, items)

    fit = fit_int8(plan, build, rank)
    return fit.trial, _note_kept(fit)


def _record(staging: Path, trial: _Trial, notes: tuple[str, ...]) -> Manifest:
    """Write the report, then the manifest, which holds the hash of every other file."""
    verdict = trial.verdict
    draft = trial.manifest.model_copy(update={"accuracy": verdict.figures, "accuracy_loss": verdict.failures})
    files = record_files(staging)
    write_report(Report(manifest=draft, verdict=verdict, operators=trial.operators, files=files, notes=notes), staging)
    manifest = draft.model_copy(update={"files": record_files(staging)})
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
    positions = architecture.position_limit - architecture.position_offset
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
        position_offset=architecture.position_offset,
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


def _pass_gates(verdict: Verdict, *, allow_loss: bool) -> None:
    if verdict.failures and not allow_loss:
        raise ExportError(f"the bundle is not shown to agree with PyTorch: {'; '.join(verdict.failures)}")


def _note_kept(fit: Fit[_Trial]) -> tuple[str, ...]:
    """Which parts are not in int8, and why."""
    if not fit.kept:
        return ()
    parts = ", ".join(f"{part} ({cost:.1e})" for part, cost in fit.kept.items())
    return (
        f"Kept in fp32: {parts}. With all parts in int8, {'; '.join(fit.failures)}; in brackets what each alone costs, "
        "as 1 - mean cosine between outputs.",
    )


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
