"""Triton as a peer, for real, in an environment of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
from bertapi.client import BertClient
from bertapi.oip import inference_pb2, inference_pb2_grpc
from bertbench.peers.open_inference import infer_requests
from bertbench.peers.triton import triton
from bertbench.serving.workload import Workload, open_bundle
from bertserve.settings import DEMO_BUNDLE
from servers import running_server

pytestmark = [pytest.mark.export, pytest.mark.system]

CHECKPOINT = Path(__file__).parents[2] / "examples" / "pretrain" / "checkpoint"
# Triton's Python backend carries a Python library, which fits Debian's own.
DEBIANS_PYTHON = Path("/usr/bin/python3")
PACKAGES = ["nvidia-pytriton==0.7.0", "onnxruntime==1.32.0", "tokenizers==0.23.3"]
TEXTS = ["a cat sat here", "the king led his army to the north", "rain"]


@pytest.fixture(scope="module")
def triton_python(pytestconfig: pytest.Config) -> Path:
    """Kept for the next run; skips where it cannot be made."""
    folder = Path(pytestconfig.cache.mkdir("triton"))  # type: ignore[union-attr]
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists() or stamp.read_text() != " ".join(PACKAGES):
        for command in (
            [DEBIANS_PYTHON, "-m", "venv", "--clear", folder],
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", *PACKAGES],
        ):
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"Triton is not tested: {command[:4]} failed: {made.stderr[-300:]}")
        stamp.write_text(" ".join(PACKAGES))
    return python


def test_triton_gives_the_same_vectors(triton_python: Path) -> None:
    """Mean over tokens, special tokens included, to single precision; and what is sent to it is understood."""
    workload = Workload(open_bundle(DEMO_BUNDLE), None)
    with running_server() as server, BertClient(server.target) as client:
        ours = client.embed(TEXTS, pooling="mean", normalize=False).matrix
    requests = infer_requests(TEXTS, [1] * len(TEXTS))
    with (
        triton(triton_python, CHECKPOINT, workload.bundle, threads=1) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        sent = [inference_pb2.ModelInferRequest.FromString(request.message) for request in requests]
        answers = [stub.ModelInfer(request, timeout=60, wait_for_ready=True) for request in sent]
    theirs = np.stack([np.frombuffer(answer.raw_output_contents[0], dtype="<f4") for answer in answers])
    np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max())
