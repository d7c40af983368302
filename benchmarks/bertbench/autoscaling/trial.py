"""A server that has nothing to do, too much, and nothing again; and the autoscaler's metric meanwhile."""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bertbench.autoscaling.prometheus import Prometheus, adapter_query, scraping
from bertbench.balancing.callers import Client, calling
from bertbench.load.requests import prepare_one
from bertbench.serving.server_process import started

METRIC = "bertserve_estimated_wait_seconds"
# The target of deploy/base's HorizontalPodAutoscaler.
TARGET_SECONDS = 0.25
ASK_EVERY_SECONDS = 0.25
TEXTS = 32
SENTENCE = "calculus is a branch of mathematics that studies continuous change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """callers: in a closed loop, of 32 texts a call, on a server of one lane. The seconds before them, with them, and
    after them. patience: seconds more, each time, until what is to be seen is seen: no wait without callers, one above
    the target with them."""

    callers: int = 32
    before: float = 5.0
    seconds: float = 15.0
    after: float = 10.0
    patience: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """seconds: from the first moment on. wait: the metric of one pod, in seconds."""

    seconds: float
    wait: float
    is_loaded: bool

    @property
    def pods(self) -> int:
        """How many the autoscaler would want in place of this one, but for its tolerance and stabilization."""
        return max(1, math.ceil(self.wait / TARGET_SECONDS))


def measure_autoscaling(monitoring: Path, load: Load) -> list[Moment]:
    """The metric, over time, as the adapter would hand it on. Raises BenchError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flags = ["--port", "0", "--metrics-port", "0", "--lanes", "1", "--drain-pause", "0", "--log-level", "error"]
        server = stack.enter_context(started([sys.executable, "-m", "bertserve", *flags]))
        prometheus = stack.enter_context(scraping(folder, monitoring, str(server.metrics)))
        query = adapter_query(monitoring / "prometheus-adapter.yaml", METRIC)
        return asyncio.run(_watch(prometheus, query, server.target, load))


async def _watch(prometheus: Prometheus, query: str, target: str, load: Load) -> list[Moment]:
    moments: list[Moment] = []
    began = time.monotonic()

    async def watch(seconds: float, *, is_loaded: bool) -> None:
        end, is_seen = time.monotonic() + seconds, False
        while (now := time.monotonic()) < end or (not is_seen and now < end + load.patience):
            # Nothing, where a scrape took too long; an autoscaler keeps what it has, then.
            waits = await asyncio.to_thread(prometheus.query, query)
            moments.extend(Moment(seconds=now - began, wait=wait, is_loaded=is_loaded) for wait in waits)
            is_seen = any(wait > TARGET_SECONDS if is_loaded else wait == 0 for wait in waits)
            await asyncio.sleep(ASK_EVERY_SECONDS)

    await watch(load.before, is_loaded=False)
    async with calling(Client.PLAIN, target, [prepare_one("embed", [SENTENCE] * TEXTS)], load.callers):
        await watch(load.seconds, is_loaded=True)
    await watch(load.after, is_loaded=False)
    return moments
