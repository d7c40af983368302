"""What becomes of calls at three times what the server can do: answered in time, refused at once, or lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import grpc
import numpy as np
from bertserve.process.cores import usable_cores
from rich.console import Console

from bertbench.load.generator import Generator
from bertbench.load.plan import ClosedLoop, OpenLoop, Plan
from bertbench.load.scrape import Sample
from bertbench.load.summary import Summary, summarize
from bertbench.serving.saturation import CALLERS, MEAN_TOKENS, TEXTS
from bertbench.serving.server_process import serving
from bertbench.serving.workload import Workload, embed_each

TIMES_SATURATION = 3
DEADLINE_SECONDS = 1.0
# A server bounds the calls that one connection may have open; the rest would wait in the generator.
CONNECTIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """refused: by the server's count. lost: let in, but never answered. refusal_p99_at_most: seconds, by the server's
    clock; None where it is beyond its histogram. memory_before, memory_after: bytes, before and after the overload.
    cores: of this machine."""

    saturated: Summary
    overloaded: Summary
    refused: int
    lost: int
    refusal_p99_at_most: float | None
    memory_before: int
    memory_after: int
    cores: int

    @property
    def ratio(self) -> float:
        """Calls answered in time ÷ calls answered at saturation."""
        return self.overloaded.answered_rate / self.saturated.answered_rate

    @property
    def corrected_ratio(self) -> float:
        """The same, each per core that the generator left: asking three times as much takes some of the server's."""
        left, left_saturated = (self.cores - run.client_cpu_cores for run in (self.overloaded, self.saturated))
        return self.ratio * left_saturated / left


def measure_overload(workload: Workload, console: Console, flags: Sequence[str], seconds: float) -> Overload:
    """Saturate a server, then ask three times as much, with a deadline."""
    requests = embed_each(workload.texts_of_mean(MEAN_TOKENS, TEXTS))
    with serving(workload.bundle.path, *flags) as server:
        generator = Generator(requests=requests, metrics=server.metrics, console=console)
        plan = Plan(target=server.target, loop=ClosedLoop(callers=CALLERS), seconds=seconds)
        saturated = generator.run(plan)
        memory_before, before = server.memory_bytes(), server.sample()
        loop = OpenLoop(rate=TIMES_SATURATION * saturated.answered_rate)
        run = generator.carry_out(replace(plan, loop=loop, timeout_seconds=DEADLINE_SECONDS, connections=CONNECTIONS))
        memory_after, after = server.memory_bytes(), server.sample()
    refused = round(after.sum("bertserve_rejected_total") - before.sum("bertserve_rejected_total"))
    answered = int(np.count_nonzero(run.records.status == grpc.StatusCode.OK.value[0]))
    return Overload(
        saturated=saturated,
        overloaded=summarize(run),
        refused=refused,
        lost=len(run.records) - answered - refused,
        refusal_p99_at_most=bound_refusals(before, after, refused, 0.99),
        memory_before=memory_before,
        memory_after=memory_after,
        cores=usable_cores(),
    )


def bound_refusals(before: Sample, after: Sample, refused: int, share: float) -> float | None:
    """The least bound of the histogram within which this share of the refused calls were surely handled.

    The histogram of handled calls holds answered ones too. Of those, no more can have been handled within a bound than
    waited in the queue for no longer.
    """
    bounds = sorted({dict(labels)["le"] for labels in after.series["grpc_server_handling_seconds_bucket"]}, key=float)
    for bound in bounds[:-1]:
        handled, waited = (
            after.sum(f"{name}_bucket", le=bound, **labels) - before.sum(f"{name}_bucket", le=bound, **labels)
            for name, labels in (
                ("grpc_server_handling_seconds", {"grpc_method": "Embed"}),
                ("bertserve_stage_seconds", {"stage": "queue"}),
            )
        )
        if handled - waited >= share * refused:
            return float(bound)
    return None
