"""What a manifest states of a model, and what is part of a bundle's identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bertserve.bundle import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    BundleError,
    LabelActivation,
    ModelFacts,
    Similarity,
    bundle_identity,
    open_bundle,
    write_manifest,
)
from bertserve.manifest import LATER_FACTS
from bertserve.settings import DEMO_BUNDLE
from servers import CLASSIFIER, PLAIN, PRETRAINING, TAGGER

BUNDLES = {"demo": DEMO_BUNDLE, "classifier": CLASSIFIER, "plain": PLAIN, "pretraining": PRETRAINING, "tagger": TAGGER}


@pytest.mark.parametrize("path", BUNDLES.values(), ids=BUNDLES)
def test_a_manifest_of_before_is_written_as_it_was(path: Path, tmp_path: Path) -> None:
    """Facts that came later are at their default there, so neither the file nor the bundle id names them."""
    manifest = open_bundle(path).manifest
    write_manifest(tmp_path, manifest)
    assert (tmp_path / MANIFEST_NAME).read_bytes() == (path / MANIFEST_NAME).read_bytes()
    assert bundle_identity(manifest.model, manifest.files) == manifest.bundle_id


def test_a_manifest_of_this_version_names_the_operators_beside_onnx(tmp_path: Path) -> None:
    """None of them is a statement too, and no part of the bundle id."""
    manifest = open_bundle(PLAIN).manifest
    write_manifest(tmp_path, manifest.model_copy(update={"schema_version": SCHEMA_VERSION, "operators": ()}))
    written = json.loads((tmp_path / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert (written["schema_version"], written["operators"]) == (2, [])
    assert written["bundle_id"] == manifest.bundle_id


def test_every_fact_is_stated_by_all_manifests_or_came_later() -> None:
    """A new fact has to be named among the later ones, or old bundles would lose their ids."""
    stated = json.loads((DEMO_BUNDLE / MANIFEST_NAME).read_text(encoding="utf-8"))["model"]
    assert set(ModelFacts.model_fields) == set(stated) | LATER_FACTS
    assert not set(stated) & LATER_FACTS


@pytest.mark.parametrize(
    ("name", "value", "stated"),
    [
        ("label_activation", LabelActivation.TANH, "tanh"),
        ("prompts", {"query": "ask: "}, {"query": "ask: "}),
        ("default_prompt", "query", "query"),
        ("dimensions", (64, 128), [64, 128]),
        ("similarity", Similarity.DOT, "dot"),
    ],
)
def test_a_later_fact_is_stated_where_it_says_something(tmp_path: Path, name: str, value: Any, stated: Any) -> None:
    """It is written, read back, and part of the bundle id."""
    manifest = open_bundle(CLASSIFIER).manifest
    facts = manifest.model.model_copy(update={name: value})
    write_manifest(tmp_path, manifest.model_copy(update={"model": facts}))
    written = json.loads((tmp_path / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert written["model"][name] == stated
    assert ModelFacts.model_validate(written["model"]) == facts
    assert bundle_identity(facts, manifest.files) != manifest.bundle_id


def test_a_choice_that_a_later_version_made_is_refused_by_its_axis(tmp_path: Path) -> None:
    """A server that does not know how far tokens attend would read the bundle's answers wrongly."""
    manifest = json.loads((PLAIN / MANIFEST_NAME).read_text(encoding="utf-8"))
    manifest["model"]["encoder"] = {"span": "window"}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match=r"model\.encoder\.span: Input should be 'all'"):
        open_bundle(tmp_path)
