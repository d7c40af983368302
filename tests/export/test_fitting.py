"""Which parts stay out of int8: as few as the gates allow, the costliest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from bertexport.errors import ExportError
from bertexport.export import export_checkpoint
from bertexport.fit.fitting import bisect_smallest, fit_int8
from bertexport.fit.quantization import Int8Plan
from bertexport.proof.verification import Verdict
from bertexport.request import ExportRequest
from bertserve.bundle import read_bundle
from bertserve.engine.golden import check_golden
from bertserve.engine.ort.session import Engine
from checkpoints import read_tensors, write_checkpoint, write_tensors
from hypothesis import given
from hypothesis import strategies as st

from .conftest import SilentSteps

pytestmark = pytest.mark.export

PASSED = Verdict(figures={}, layers=(), bands=(), gates=(), failures=())
FAILED = replace(PASSED, failures=("a gate is missed",))


@dataclass(frozen=True)
class Trial:
    """What a build gave, and of which plan."""

    plan: Int8Plan
    verdict: Verdict


@given(low=st.integers(-3, 9), span=st.integers(0, 60), smallest=st.integers(-3, 80))
def test_the_smallest_number_that_passes_is_found(low: int, span: int, smallest: int) -> None:
    """With few tries, none of them outside of the bounds; and nothing is found if the highest number fails."""
    tried: list[int] = []

    def passes(number: int) -> bool:
        tried.append(number)
        return number >= smallest

    found = bisect_smallest(passes, low, low + span)
    assert found == (max(low, smallest) if smallest <= low + span else None)
    assert set(tried) <= set(range(low, low + span + 1))
    assert len(tried) <= 2 + 2 * (span + 1).bit_length()


@given(count=st.integers(2, 60), needed=st.integers(0, 60))
def test_as_few_parts_are_kept_as_pass(count: int, needed: int) -> None:
    """The trial that comes back passed, was built last, and kept just the costliest parts that had to be kept."""
    costs = {f"part_{index}": 1.0 / (index + 1) for index in range(count)}
    built: list[Trial] = []

    def build(plan: Int8Plan) -> Trial:
        built.append(Trial(plan, PASSED if len(plan.kept) >= needed else FAILED))
        return built[-1]

    if needed >= count:
        with pytest.raises(ExportError, match="int8 does not suit this checkpoint"):
            fit_int8(Int8Plan(), build, lambda: costs)
        return
    fit = fit_int8(Int8Plan(), build, lambda: costs)
    assert fit.trial is built[-1]
    assert list(fit.kept) == list(costs)[:needed]
    assert fit.trial.plan.kept == frozenset(fit.kept)
    assert len(built) <= 3 + 2 * count.bit_length()


def test_nobody_ranks_parts_where_all_of_them_pass() -> None:
    """Ranking runs the model once for every part."""

    def rank() -> dict[str, float]:
        raise AssertionError("asked without need")

    assert fit_int8(Int8Plan(), lambda plan: Trial(plan, PASSED), rank).kept == {}


def add_outliers(checkpoint: Path) -> None:
    """Make one feature of the first layer's GELU output drown all others, for those tokens that reach it."""
    tensors = read_tensors(checkpoint)
    tensors["encoder.layer.0.intermediate.dense.weight"][3] *= 400
    tensors["encoder.layer.0.output.dense.weight"][:, 3] /= 400
    write_tensors(checkpoint, tensors)


def test_a_part_that_int8_spoils_is_kept_and_named(tmp_path: Path) -> None:
    """The export passes its gates all the same, and the report says which part is not in int8, and why."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", (), prefix=False, num_hidden_layers=1)
    add_outliers(checkpoint)
    request = ExportRequest(model=str(checkpoint), output=tmp_path / "bundle", precision="int8")
    result = export_checkpoint(request, SilentSteps())
    assert result.verdict.failures == ()
    note = next(note for note in result.notes if note.startswith("Kept out of int8: "))
    assert "layer_0.down" in note
    assert "With all parts in int8, " in note
    assert note in (tmp_path / "bundle" / "REPORT.md").read_text(encoding="utf-8")


def test_an_accuracy_loss_that_is_allowed_is_marked(tmp_path: Path, brief_texts: Path) -> None:
    """Every part is in int8, the manifest and the report name the gates that are missed, and the bundle loads."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", (), prefix=False, num_hidden_layers=1)
    add_outliers(checkpoint)
    request = ExportRequest(
        model=str(checkpoint),
        output=tmp_path / "bundle",
        precision="int8",
        allow_accuracy_loss=True,
        verify=brief_texts,
    )
    result = export_checkpoint(request, SilentSteps())
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.manifest.accuracy_loss == result.verdict.failures != ()
    assert "Less accurate than it should be" in (tmp_path / "bundle" / "REPORT.md").read_text(encoding="utf-8")
    check_golden(Engine(bundle, threads=1))
