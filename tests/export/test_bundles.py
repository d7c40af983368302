"""The bundles in the repository are what today's export makes of their checkpoints, bit for bit where it counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from bertserve.bundle import read_bundle
from bertserve.settings import DEMO_BUNDLE
from checkpoints import write_checkpoint
from make_bundles import BUNDLES, CHECKPOINTS

from .conftest import Export

pytestmark = pytest.mark.export

DEMO_CHECKPOINT = Path(__file__).parents[2] / "examples" / "pretrain" / "checkpoint"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_test_bundle_is_up_to_date(name: str, tmp_path: Path, export: Export) -> None:
    """Else run tests/make_bundles.py."""
    made = export(write_checkpoint(tmp_path / name, **CHECKPOINTS[name]))
    assert made.manifest.bundle_id == read_bundle(BUNDLES / name).manifest.bundle_id


def test_demo_model_is_reproduced_from_its_checkpoint(export: Export) -> None:
    """`make demo-model` gives the bundle id that is served."""
    assert export(DEMO_CHECKPOINT).manifest.bundle_id == read_bundle(DEMO_BUNDLE).manifest.bundle_id
