"""The golden check: it passes where the bundle was made, and fails wherever outputs differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bertexport.export import ExportResult
from bertserve.bundle import Bundle, BundleError, Head, read_bundle
from bertserve.engine.contract import Engine
from bertserve.engine.golden import (
    GoldenCase,
    check_golden,
    comparable_outputs,
    read_golden,
    relative_difference,
    write_golden,
)
from bertserve.engine.opening import open_engine
from checkpoints import write_checkpoint

from .conftest import Export

pytestmark = pytest.mark.export


@pytest.fixture
def bundle(tmp_path: Path, export: Export) -> Bundle:
    return export(write_checkpoint(tmp_path / "checkpoint"))


def alter(case: GoldenCase, name: str, by: float) -> GoldenCase:
    return replace(case, own={**case.own, name: case.own[name] + np.float32(by)})


def test_an_untouched_bundle_passes(full_engine: Engine) -> None:
    """The machine that exported computes what it computed."""
    check_golden(full_engine)


def test_golden_cases_ask_every_head(full_export: tuple[Path, ExportResult]) -> None:
    """Nothing that is served goes unproven."""
    bundle = read_bundle(full_export[0])
    cases = read_golden(bundle.golden_path)
    assert len(cases) >= 3
    assert set(bundle.model.heads) == set(Head) - {Head.TOKEN_CLASSIFICATION}
    names = {"layer_0", "layer_2", "pooled", "mask_top_log_probabilities", "target_log_probabilities"}
    assert all(set(case.own) == {*names, "next_sentence_logits", "class_logits"} for case in cases)


def test_golden_holds_pytorchs_outputs_beside_the_bundles_own(full_export: tuple[Path, ExportResult]) -> None:
    """Both under the same names, within the gate of each other."""
    for case in read_golden(full_export[0] / "golden.npz"):
        assert set(case.reference) == set(case.own)
        assert all(relative_difference(case.own[name], case.reference[name]) <= 1e-4 for name in case.own)


@pytest.mark.parametrize(
    "name", ["layer_0", "layer_2", "pooled", "mask_top_log_probabilities", "target_log_probabilities"]
)
def test_other_outputs_are_refused(name: str, bundle: Bundle) -> None:
    """An output that is off by one percent is named, with the distance."""
    cases = read_golden(bundle.golden_path)
    write_golden(bundle.golden_path, [*cases[:-1], alter(cases[-1], name, 0.1)])
    with pytest.raises(BundleError, match=rf"golden.npz: on this machine {name} differs .*; use an onnxruntime"):
        check_golden(open_engine(bundle, threads=1))


def test_a_difference_within_the_tolerance_passes(bundle: Bundle) -> None:
    """Other instruction sets round differently."""
    cases = read_golden(bundle.golden_path)
    write_golden(bundle.golden_path, [alter(cases[0], "pooled", bundle.manifest.golden_tolerance / 2), *cases[1:]])
    check_golden(open_engine(bundle, threads=1))


def test_nan_never_passes(bundle: Bundle) -> None:
    """A comparison with NaN is no agreement."""
    cases = read_golden(bundle.golden_path)
    write_golden(bundle.golden_path, [alter(cases[0], "pooled", np.nan), *cases[1:]])
    with pytest.raises(BundleError, match="pooled differs"):
        check_golden(open_engine(bundle, threads=1))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive"], ids=["empty", "no archive"])
def test_a_file_without_golden_outputs_is_refused(content: bytes, bundle: Bundle) -> None:
    """One line says that it is not what it should be."""
    bundle.golden_path.write_bytes(content)
    with pytest.raises(BundleError, match="not golden outputs"):
        check_golden(open_engine(bundle, threads=1))


def test_a_file_without_cases_is_refused(bundle: Bundle) -> None:
    """No proof is no pass."""
    write_golden(bundle.golden_path, [])
    with pytest.raises(BundleError, match="holds no golden outputs"):
        check_golden(open_engine(bundle, threads=1))


def test_pickled_arrays_are_refused(bundle: Bundle) -> None:
    """Nothing in a bundle is ever unpickled."""
    np.savez(bundle.golden_path, **{"0/item/input_ids": np.array([{}], dtype=object)})
    with pytest.raises(BundleError, match="not golden outputs"):
        check_golden(open_engine(bundle, threads=1))


def test_inputs_that_the_graph_cannot_run_are_refused(bundle: Bundle) -> None:
    """A token beyond the vocabulary: the graph's own complaint, in one line."""
    case = read_golden(bundle.golden_path)[0]
    item = replace(case.item, input_ids=case.item.input_ids + 10_000)
    write_golden(bundle.golden_path, [replace(case, item=item)])
    with pytest.raises(BundleError, match="does not run its golden inputs"):
        check_golden(open_engine(bundle, threads=1))


def test_cases_survive_writing_and_reading(full_engine: Engine, tmp_path: Path) -> None:
    """Inputs, what they want, and all outputs come back as they were."""
    cases = read_golden(full_engine.bundle.golden_path)
    write_golden(tmp_path / "golden.npz", cases)
    assert (tmp_path / "golden.npz").read_bytes() == full_engine.bundle.golden_path.read_bytes()
    results = full_engine.run_items([case.item for case in cases])
    for case, result in zip(cases, results, strict=True):
        for name, values in comparable_outputs(result).items():
            np.testing.assert_array_equal(values, case.own[name], strict=True)
