"""NVIDIA's Triton around ONNX Runtime: how to start it.

Its wheel wants a Python whose library is as old as the one it was built with, and so an environment of its own, whose
`python` is named by its path.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from bertserve.bundle import Bundle
from transformers import AutoModel
from transformers.utils import logging

from bertbench.graph.padded import export_padded
from bertbench.peers.open_inference import SERVED_NAME
from bertbench.ports import free_port
from bertbench.serving.server_process import ServerProcess, started

# The best of those tried, with instances of one thread each (benchmarks/README.md).
BATCH_TEXTS = 4
PROGRAM = Path(__file__).parent / "foreign" / "triton_server.py"


@contextlib.contextmanager
def triton(python: Path, checkpoint: Path, bundle: Bundle, threads: int) -> Iterator[ServerProcess]:
    """Triton with a checkpoint as the optimized padded graph, in single precision. bundle: of the same checkpoint, for
    shapes and tokenizer. Raises BenchError if it does not start."""
    # It tells of heads that are not loaded.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    with tempfile.TemporaryDirectory() as folder:
        graph = export_padded(model, bundle.model, Path(folder)).path
        flags = {
            "--name": SERVED_NAME, "--instances": threads, "--batch-texts": BATCH_TEXTS, "--port": free_port(),
        }  # fmt: skip
        options = [str(part) for flag in flags.items() for part in flag]
        with started([str(python), str(PROGRAM), str(graph), str(bundle.tokenizer_path), *options]) as server:
            yield server
