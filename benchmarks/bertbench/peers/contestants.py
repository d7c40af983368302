"""Servers that are compared: how each is started, and what to send to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bertbench.load.requests import PreparedRequest
from bertbench.peers.infinity import infinity, infinity_requests
from bertbench.peers.kserve import kserve
from bertbench.peers.open_inference import infer_requests
from bertbench.peers.triton import triton
from bertbench.serving.server_process import ServerProcess, serving, started
from bertbench.serving.workload import Workload, embed_each


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A server that can be started, and what to send to it: the same texts for all."""

    name: str
    start: Callable[[], AbstractContextManager[ServerProcess]]
    requests: tuple[PreparedRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environments:
    """Of peers that cannot live in ours; a peer without one is left out. infinity: its program infinity_emb; triton,
    kserve: a python."""

    infinity: Path | None = None
    triton: Path | None = None
    kserve: Path | None = None


def contestants(
    workload: Workload, texts: Sequence[str], checkpoint: Path, threads: int, environments: Environments
) -> list[Contestant]:
    """bertserve, then its peers. checkpoint: what the workload's bundle was exported from."""
    bundle, flags = workload.bundle.path, ("--lanes", str(threads), "--lane-threads", "1")
    module = [sys.executable, "-m", "bertbench.peers.transformers_server", str(checkpoint), "--threads", str(threads)]
    requests = embed_each(texts)
    return [
        Contestant(name="bertserve", start=partial(serving, bundle, *flags), requests=requests),
        Contestant(name="grpc.aio + transformers", start=partial(started, module), requests=requests),
        *_foreign(workload, texts, checkpoint, threads, environments),
    ]


def _foreign(
    workload: Workload, texts: Sequence[str], checkpoint: Path, threads: int, environments: Environments
) -> Iterator[Contestant]:
    tokens = [item.length for item in workload.items(texts)]
    if python := environments.triton:
        start = partial(triton, python, checkpoint, workload.bundle, threads)
        yield Contestant(name="Triton + ONNX Runtime", start=start, requests=infer_requests(texts, tokens))
    if python := environments.kserve:
        start = partial(kserve, python, checkpoint, threads)
        yield Contestant(name="KServe + transformers", start=start, requests=infer_requests(texts, tokens))
    if program := environments.infinity:
        start = partial(infinity, program, checkpoint, threads)
        yield Contestant(name="Infinity, HTTP", start=start, requests=infinity_requests(texts, tokens))
