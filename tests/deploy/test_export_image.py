"""The Dockerfile's second target: a checkpoint becomes a bundle, and nobody needs a Python for it.

Skips, with the reason, where it cannot run at all.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bertserve.bundle import read_bundle
from checkpoints import write_checkpoint

from .containers import RESTRICTED, added_bytes, build_export_image, engine, make_base

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.export, pytest.mark.timeout(1200)]

# A torch with CUDA is larger by gigabytes.
OWN_BYTES_AT_MOST = 2e9


def test_the_image_exports_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As nobody, under a read-only root and without network, into a folder of this machine, from which it is served."""
    image = build_export_image(make_base())
    write_checkpoint(tmp_path / "tiny")
    (bundles := tmp_path / "bundles").mkdir()
    bundles.chmod(0o777)
    for path in [tmp_path, *(tmp_path / "tiny").iterdir()]:
        path.chmod(0o755)
    options = ["--rm", "--network=none", *RESTRICTED, f"--volume={tmp_path}:/work"]
    engine("podman", "run", *options, image, "tiny", "-o", "bundles/tiny")
    assert read_bundle(bundles / "tiny").manifest.source.model == "tiny"
    assert {file.stat().st_uid for file in bundles.iterdir()} == {10001}
    with capsys.disabled():
        print(f"\nthe export image: {added_bytes(image) / 1e6:,.0f} MB on top of its base")
    assert added_bytes(image) < OWN_BYTES_AT_MOST
