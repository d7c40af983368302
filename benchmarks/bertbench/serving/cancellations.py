"""Whether work of callers who left is run: tokens that the engine ran, beside tokens of requests that were answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import grpc
import numpy as np
from rich.console import Console

from bertbench.load.generator import Generator
from bertbench.load.plan import ClosedLoop, Plan
from bertbench.serving.saturation import CALLERS, MEAN_TOKENS, TEXTS
from bertbench.serving.server_process import serving
from bertbench.serving.workload import Workload, embed_each

CANCELLED_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellations:
    """cancelled: calls that this side cancelled. dropped: items that the server took out of the queue before they ran.

    run_tokens: by the server's count; answered_tokens: of the answers.
    """

    calls: int
    cancelled: int
    dropped: int
    run_tokens: int
    answered_tokens: int

    @property
    def excess_tokens(self) -> int:
        """Tokens that ran for nobody."""
        return self.run_tokens - self.answered_tokens

    @property
    def excess_share(self) -> float:
        return self.excess_tokens / self.run_tokens

    @property
    def cancelled_in_a_batch(self) -> int:
        """Calls that were cancelled when their batch was under way, at most: those that the queue did not give back."""
        return self.cancelled - self.dropped


def measure_cancellations(workload: Workload, console: Console, flags: Sequence[str], seconds: float) -> Cancellations:
    """A saturated server, three in ten of whose callers leave at a random moment of the usual wait."""
    requests = embed_each(workload.texts_of_mean(MEAN_TOKENS, TEXTS))
    with serving(workload.bundle.path, *flags) as server:
        generator = Generator(requests=requests, metrics=server.metrics, console=console)
        plan = Plan(target=server.target, loop=ClosedLoop(callers=CALLERS), seconds=seconds)
        usual_wait = generator.run(replace(plan, seconds=seconds / 4)).latency.p50
        before = server.sample()
        records = generator.carry_out(
            replace(plan, cancelled=CANCELLED_SHARE, cancel_within_seconds=usual_wait)
        ).records
        after = server.sample()
    return Cancellations(
        calls=len(records),
        cancelled=int(np.count_nonzero(records.status == grpc.StatusCode.CANCELLED.value[0])),
        dropped=round(after.sum("bertserve_dropped_total") - before.sum("bertserve_dropped_total")),
        run_tokens=round(after.sum("bertserve_tokens_total") - before.sum("bertserve_tokens_total")),
        answered_tokens=int(records.tokens.sum()),
    )
