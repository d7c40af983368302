"""Infinity (infinity-emb), which serves embeddings over HTTP: how to start it, and what to send.

It pins older libraries than ours, and so lives in an environment of its own, whose `infinity_emb` is named by its path.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from bertbench.load.requests import PreparedRequest
from bertbench.ports import free_port
from bertbench.serving.server_process import ServerProcess, launched

SERVED_NAME = "peer"
# The best of those tried (benchmarks/README.md).
BATCH_TEXTS = 4
START_SECONDS = 120.0
POLL_SECONDS = 0.2


@contextlib.contextmanager
def infinity(program: Path, checkpoint: Path, threads: int) -> Iterator[ServerProcess]:
    """Infinity with a checkpoint on its torch engine, in single precision. Raises BenchError if it does not start."""
    port = free_port()
    options = {
        "--model-id": str(checkpoint),
        "--served-model-name": SERVED_NAME,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--engine": "torch",
        "--device": "cpu",
        "--dtype": "float32",
        "--pooling-method": "mean",
        "--batch-size": str(BATCH_TEXTS),
        "--log-level": "error",
    }
    # BetterTransformer went with optimum 2; transformers itself attends by SDPA since.
    command = [str(program), "v2", *itertools.chain.from_iterable(options.items()), "--no-bettertransformer"]
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Neither reports of use nor look-ups of the checkpoint at the hub.
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }
    began = time.monotonic()
    with launched(command, environment) as launch:
        target = f"http://127.0.0.1:{port}"
        while not _is_healthy(target):
            if launch.process.poll() is not None or time.monotonic() - began > START_SECONDS:
                raise launch.failure()
            with contextlib.suppress(subprocess.TimeoutExpired):
                launch.process.wait(POLL_SECONDS)
        seconds = time.monotonic() - began
        yield ServerProcess(launch=launch, target=target, metrics=None, ready_seconds=seconds)


def infinity_requests(texts: Sequence[str], tokens: Sequence[int]) -> tuple[PreparedRequest, ...]:
    """One request for each text. Answers count characters, so the tokens of each text are given.

    Vectors are asked for in base64, which costs either side less than numbers in decimal.
    """
    return tuple(
        PreparedRequest(
            task="embed",
            kind="embed",
            path="/embeddings",
            message=json.dumps({"model": SERVED_NAME, "input": [text], "encoding_format": "base64"}).encode(),
            texts=1,
            tokens=count,
        )
        for text, count in zip(texts, tokens, strict=True)
    )


def _is_healthy(target: str) -> bool:
    try:
        with urllib.request.urlopen(f"{target}/health", timeout=5) as answer:  # noqa: S310 (loopback)
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
