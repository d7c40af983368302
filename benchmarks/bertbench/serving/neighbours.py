"""What short texts pay for long ones beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console

from bertbench.load.generator import Generator
from bertbench.load.plan import ClosedLoop, OpenLoop, Plan
from bertbench.load.requests import PreparedRequest
from bertbench.load.summary import Summary
from bertbench.serving.saturation import CALLERS
from bertbench.serving.server_process import serving
from bertbench.serving.workload import Workload, embed_each

SHORT_TOKENS = 32
LONG_TOKENS = 512
# Of what the server can do of either kind alone; 60 % of its capacity together.
SHARE_OF_CAPACITY = 0.3
POOL = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """lone_pass: one long request on an idle server. short_capacity, long_capacity: saturated by either kind alone.
    short_alone, together: short requests at 30 % of capacity, without and with long ones that take as much."""

    long_tokens: int
    lone_pass: Summary
    short_capacity: Summary
    long_capacity: Summary
    short_alone: Summary
    together: Summary

    @property
    def pass_seconds(self) -> float:
        """Median time of a lone long request."""
        return self.lone_pass.latency.p50

    @property
    def short_p99(self) -> float:
        """Seconds, of short requests beside long ones."""
        return self.together.kinds["short"].latency.p99

    @property
    def bound(self) -> float:
        """One pass of a long request, and three times the p99 that short requests have alone."""
        return self.pass_seconds + 3 * self.short_alone.latency.p99


def measure_neighbours(workload: Workload, console: Console, flags: Sequence[str], seconds: float) -> Neighbours:
    """Either kind alone, then both."""
    long_tokens = min(LONG_TOKENS, workload.bundle.model.max_tokens)
    short = embed_each(workload.texts(workload.rng.integers(5, SHORT_TOKENS + 1, 512).tolist()), "short")
    long = embed_each(workload.texts([long_tokens] * 16), "long")
    with serving(workload.bundle.path, *flags) as server:
        plan = Plan(target=server.target, loop=ClosedLoop(callers=1), seconds=seconds)

        def run(requests: tuple[PreparedRequest, ...], loop: OpenLoop | ClosedLoop, seconds: float) -> Summary:
            generator = Generator(requests=requests, metrics=server.metrics, console=console)
            return generator.run(replace(plan, loop=loop, seconds=seconds))

        lone_pass = run(long, ClosedLoop(callers=1), seconds / 4)
        short_capacity = run(short, ClosedLoop(callers=CALLERS), seconds / 2)
        long_capacity = run(long, ClosedLoop(callers=CALLERS // 8), seconds / 2)
        rates = [SHARE_OF_CAPACITY * found.answered_rate for found in (short_capacity, long_capacity)]
        return Neighbours(
            long_tokens=long_tokens,
            lone_pass=lone_pass,
            short_capacity=short_capacity,
            long_capacity=long_capacity,
            short_alone=run(short, OpenLoop(rate=rates[0]), seconds),
            together=run(mingle((short, long), rates, workload.rng), OpenLoop(rate=sum(rates)), seconds),
        )


def mingle(
    kinds: Sequence[tuple[PreparedRequest, ...]], rates: Sequence[float], rng: np.random.Generator
) -> tuple[PreparedRequest, ...]:
    """Requests of several kinds, in random order, as many of each as its rate has of the sum."""
    drawn = rng.choice(len(kinds), POOL, p=np.array(rates) / sum(rates))
    return tuple(kinds[kind][number % len(kinds[kind])] for number, kind in enumerate(drawn))
