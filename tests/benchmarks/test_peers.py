"""The peers answer what bertserve answers, so that comparing their speed is fair."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bertapi.client import BertClient
from bertbench.load.texts import read_texts
from bertbench.peers.contestants import Environments, contestants
from bertbench.serving.workload import Workload, open_bundle
from bertserve.settings import DEMO_BUNDLE

pytestmark = [pytest.mark.export, pytest.mark.long]

CHECKPOINT = Path(__file__).parents[2] / "examples" / "pretrain" / "checkpoint"
TEXTS = list(read_texts(None)[:40])


@pytest.fixture(scope="module")
def vectors() -> dict[str, list[np.ndarray]]:
    """Every server's vectors of the same texts, by its name."""
    found = {}
    workload = Workload(open_bundle(DEMO_BUNDLE), None)
    for contestant in contestants(workload, TEXTS, CHECKPOINT, 1, Environments()):
        with contestant.start() as server, BertClient(server.target) as client:
            found[contestant.name] = [one.vectors for one in client.embed(TEXTS, pooling="mean", normalize=False)]
    return found


def test_every_peer_gives_the_same_vectors(vectors: dict[str, list[np.ndarray]]) -> None:
    """Mean over tokens, special tokens included, to single precision."""
    ours, *others = vectors.values()
    assert others
    for theirs in others:
        for own, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(other, own, atol=1e-4 * max(1.0, np.abs(own).max()))


def test_the_comparison_makes_a_table_a_file_and_a_plot(tmp_path: Path) -> None:
    """Every peer under every load."""
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    command = [sys.executable, "-m", "bertbench", "peers", str(DEMO_BUNDLE), str(CHECKPOINT), "--seconds", "0.5"]
    files = ["--json", str(figures), "--plot", str(plot)]
    done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert "grpc.aio + transformers" in done.stdout
    found = json.loads(figures.read_text())["peers"]
    assert [len(peer["loaded"]) for peer in found] == [4, 4]
    assert all(peer["saturated"]["statuses"].keys() == {"OK"} for peer in found)
    assert plot.stat().st_size > 10_000
