"""The export itself, step by step: read, run in PyTorch, build, compare, record; only then the bundle gets its name.

Whatever stops a step leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bertserve.bundle import GOLDEN_NAME, Head, Manifest, read_bundle, record_files, write_manifest
from bertserve.engine.golden import check_golden, write_golden
from bertserve.engine.ort.session import Engine
from bertserve.tokenizer import Text

from bertexport.errors import ExportError, explain_unexpected
from bertexport.fit.calibration import plan_int8, rank_parts
from bertexport.fit.fitting import Fit, fit_int8
from bertexport.fit.quantization import Int8Plan
from bertexport.graph.precision.contract import Precision
from bertexport.graph.precision.int8 import Int8
from bertexport.graph.precision.registry import PRECISIONS
from bertexport.paths import decodable
from bertexport.proof.golden_cases import choose_golden, expect_golden, make_cases
from bertexport.proof.inputs import fill_gaps, make_items, read_long_texts, read_text_file, vary
from bertexport.proof.reference import Reference, expect, load_reference
from bertexport.proof.report import Operators, Report, write_report
from bertexport.proof.threads import count_threads
from bertexport.proof.verification import Verdict
from bertexport.request import ExportRequest, Progress
from bertexport.source.reader import SourceModel, read_source
from bertexport.staging import remove_abandoned, staged_directory
from bertexport.trial import Trial, build_trial


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What the closing table shows."""

    manifest: Manifest
    verdict: Verdict
    operators: Operators
    notes: tuple[str, ...]


def export_checkpoint(request: ExportRequest, progress: Progress) -> ExportResult:
    """Write a complete and verified bundle. Raises ExportError or BundleError and leaves nothing behind."""
    with explain_unexpected(), decodable(Path(request.model)) as model:
        # A hub's id stays as it is written, which a path might not.
        is_same = str(model) == str(Path(request.model))
        return _export(request if is_same else replace(request, model=str(model)), progress)


def _export(request: ExportRequest, progress: Progress) -> ExportResult:
    precision = PRECISIONS[request.precision]
    verification, calibration = _read_asked_texts(request, precision)
    with staged_directory(request.output, replace=request.force) as staging:
        for folder in remove_abandoned(request.output.resolve().parent):
            with progress.step(f"Removed {folder}, left by an export that was killed"):
                pass
        source = read_source(request, vary(verification, masked=True), staging, progress)
        with progress.step("Load the checkpoint in PyTorch"):
            reference = load_reference(source.checkpoint.directory, source.weights, source.architecture.heads)
            masked = Head.MASKED_LM in source.architecture.heads
            long_texts = read_long_texts(source.architecture)
            built_in = make_items(source.tokenizer, [*vary(None, masked=masked), *long_texts], source.architecture)
            texts = vary(verification, masked=masked)
            asked = make_items(source.tokenizer, [*texts, *long_texts], source.architecture)
            items, gaps = fill_gaps(asked, built_in, source.architecture.heads)
        with progress.step("Run it in PyTorch", len(items)) as advance:
            expected = [expect(reference, item, advance) for item in items]
            golden = expect_golden(reference, choose_golden(built_in))
        build = partial(build_trial, staging, source, expected, progress)
        if isinstance(precision, Int8):
            trial, notes = _build_int8(precision, request, source, reference, calibration, build, progress)
        else:
            # As large as the checkpoint, and no longer needed.
            del reference
            trial, notes = build(precision), ()
        _pass_gates(trial.verdict, allow_loss=request.allow_accuracy_loss)
        with progress.step("Write golden outputs and report"):
            write_golden(staging / GOLDEN_NAME, make_cases(trial.engine, golden))
            notes = (*source.notes, *notes, *_note_gaps(gaps))
            manifest = _record(staging, trial, notes)
            result = ExportResult(manifest=manifest, verdict=trial.verdict, operators=trial.operators, notes=notes)
        with progress.step("Check the bundle as the server does"):
            # The first engine's weights need not lie in memory beside the second's.
            del trial
            check_golden(Engine(read_bundle(staging), count_threads()))
    return result


def _read_asked_texts(request: ExportRequest, precision: Precision) -> tuple[list[Text] | None, list[Text] | None]:
    """What to verify on, and what to fit int8 to, before anything that takes long; None for the built-in texts.

    Raises ExportError.
    """
    if request.calibration is not None and not isinstance(precision, Int8):
        raise ExportError(
            f"--calibration is what int8 is fitted to, and the precision is {precision.name}; "
            "leave it out, or ask for --precision int8"
        )
    verify, calibration = request.verify, request.calibration
    return (
        read_text_file(verify, "--verify") if verify is not None else None,
        read_text_file(calibration, "--calibration") if calibration is not None else None,
    )


def _build_int8(
    precision: Int8,
    request: ExportRequest,
    source: SourceModel,
    reference: Reference,
    texts: list[Text] | None,
    build: Callable[[Precision], Trial],
    progress: Progress,
) -> tuple[Trial, tuple[str, ...]]:
    """All in int8 where that passes the gates or nobody minds; else with the costliest parts kept, and a note."""
    masked = Head.MASKED_LM in source.architecture.heads
    varied = vary(texts, "calibration", masked=masked)
    items = make_items(source.tokenizer, varied, source.architecture, "calibration")
    with progress.step("Calibrate", len(items)) as advance:
        plan = plan_int8(reference, source.weights, source.architecture, items, advance)

    def build_by(plan: Int8Plan) -> Trial:
        return build(replace(precision, plan=plan))

    if request.allow_accuracy_loss:
        return build_by(plan), ()

    def rank() -> dict[str, float]:
        with progress.step("See what each part costs in int8"):
            return rank_parts(reference, source.weights, source.architecture, plan, items)

    fit = fit_int8(plan, build_by, rank)
    return fit.trial, _note_kept(fit)


def _record(staging: Path, trial: Trial, notes: tuple[str, ...]) -> Manifest:
    """Write the report, then the manifest, which holds the hash of every other file."""
    verdict = trial.verdict
    draft = trial.manifest.model_copy(update={"accuracy": verdict.figures, "accuracy_loss": verdict.failures})
    files = record_files(staging)
    longest_text_bytes = trial.engine.estimate_run_bytes(draft.model.max_tokens)
    write_report(
        Report(
            manifest=draft,
            verdict=verdict,
            operators=trial.operators,
            files=files,
            notes=notes,
            longest_text_bytes=longest_text_bytes,
        ),
        staging,
    )
    manifest = draft.model_copy(update={"files": record_files(staging)})
    write_manifest(staging, manifest)
    return manifest


def _pass_gates(verdict: Verdict, *, allow_loss: bool) -> None:
    if verdict.failures and not allow_loss:
        raise ExportError(
            f"the bundle is not shown to agree with PyTorch: {'; '.join(verdict.failures)}; "
            "--allow-accuracy-loss writes it all the same, and marks it"
        )


def _note_kept(fit: Fit[Trial]) -> tuple[str, ...]:
    """Which parts are not in int8, and why."""
    if not fit.kept:
        return ()
    parts = ", ".join(f"{part} ({cost:.1e})" for part, cost in fit.kept.items())
    return (
        f"Kept out of int8: {parts}. With all parts in int8, {'; '.join(fit.failures)}; "
        "in brackets what each alone costs, as 1 - mean cosine between outputs.",
    )


def _note_gaps(gaps: list[Head]) -> tuple[str, ...]:
    if not gaps:
        return ()
    names = ", ".join(head.value for head in gaps)
    return (f"Verified on built-in texts, since the given ones do not ask for it: {names}.",)
