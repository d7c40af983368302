"""The load generator against a server of known delay: what it reports is what happened."""

from __future__ import annotations

import math
import socket

import grpc
import numpy as np
import pytest
from bertbench.errors import BenchError
from bertbench.load.arrivals import Arrivals
from bertbench.load.client import Progress
from bertbench.load.driver import Run, carry_out
from bertbench.load.plan import ClosedLoop, OpenLoop, Plan, deal
from bertbench.load.requests import PreparedRequest, prepare
from bertbench.load.summary import summarize
from delayed_server import TOKENS, DelayedServer, delayed_server

pytestmark = [pytest.mark.export, pytest.mark.slow]

OK, CANCELLED, DEADLINE = (getattr(grpc.StatusCode, name).value[0] for name in ("OK", "CANCELLED", "DEADLINE_EXCEEDED"))


def requests(count: int = 64) -> tuple[PreparedRequest, ...]:
    return prepare(["a text"], {"embed": 1}, {1: 1, 3: 1}, np.random.default_rng(0), count=count)


def run(servicer: DelayedServer, plan: dict[str, object], *, workers: int = 32) -> Run:
    with delayed_server(servicer, workers=workers):
        return carry_out(Plan(target=servicer.target, warmup_seconds=0.2, **plan), requests())  # type: ignore[arg-type]


def constant(rate: float) -> OpenLoop:
    return OpenLoop(rate=rate, arrivals=Arrivals.CONSTANT)


def test_rate_sent_is_rate_asked() -> None:
    """Every call of the schedule is sent, reaches the server, and is answered; its texts and tokens are counted."""
    servicer = DelayedServer(delay=0.001)
    summary = summarize(done := run(servicer, {"loop": constant(50), "seconds": 2.0}))
    assert (summary.calls, summary.sent_rate) == (100, 50)
    assert summary.statuses == {"OK": 100}
    assert servicer.received == len(done.records) == 110
    assert done.records.tokens.sum() == TOKENS * done.records.texts.sum()


def test_latency_holds_the_servers_delay() -> None:
    """No call is reported faster than the server can be, nor as if the server were ten times as slow."""
    done = run(DelayedServer(delay=0.05), {"loop": constant(20), "seconds": 1.0})
    assert done.records.latency.min() >= 0.05
    assert summarize(done).latency.p50 < 0.5


def test_a_stall_counts_for_every_call_that_was_due_in_it() -> None:
    """The server stands still once, for 0.6 s of 2 s: calls went on being due, and each waited for the rest of it.

    A generator that waits for answers before it sends would report a single slow call: coordinated omission.
    """
    stall = DelayedServer(delay=0.001, stalled=30, stall=0.6)
    done = run(stall, {"loop": constant(50), "seconds": 2.0}, workers=1)
    latency = done.records.latency
    assert latency.max() >= 0.6
    # Of the 30 calls due during the stall, those of its first half waited for more than half of it.
    waited = np.count_nonzero(latency >= 0.3)
    assert waited >= 15
    assert summarize(done).latency.p90 >= 0.3

    stall = DelayedServer(delay=0.001, stalled=30, stall=0.6)
    closed = run(stall, {"loop": ClosedLoop(callers=1), "seconds": 2.0}, workers=1)
    assert np.count_nonzero(closed.records.latency >= 0.3) < waited / 2


def test_queueing_is_seen_in_full() -> None:
    """A server that takes 30 ms for one call at a time, asked 50 times a second: each call waits for all before it."""
    done = run(DelayedServer(delay=0.03), {"loop": constant(50), "seconds": 1.0}, workers=1)
    earliest, free = [], -math.inf
    for due in done.records.intended:
        free = max(due, free) + 0.03
        earliest.append(free)
    assert np.all(done.records.ended >= earliest)
    assert done.records.latency[-1] >= 0.5


def test_processes_send_one_schedule_between_them() -> None:
    """Two processes send what one would have sent, call by call."""
    servicer = DelayedServer(delay=0.001)
    plan = {"loop": OpenLoop(rate=60), "seconds": 1.5, "seed": 3, "processes": 2}
    done = run(servicer, plan)
    (whole,) = deal(Plan(target="", warmup_seconds=0.2, **{**plan, "processes": 1}), requests())  # type: ignore[arg-type]
    assert done.records.intended == pytest.approx(whole.moments)
    assert servicer.received == len(whole.moments)  # type: ignore[arg-type]


def test_callers_of_a_closed_loop_wait_for_their_answers() -> None:
    """Four callers of a server that takes 50 ms make at most eighty calls a second, over two processes or one."""
    done = run(DelayedServer(delay=0.05), {"loop": ClosedLoop(callers=4), "seconds": 1.0, "processes": 2})
    summary = summarize(done)
    assert 8 <= summary.sent_rate <= 80
    assert summary.asked_rate is None
    assert done.records.latency.min() >= 0.05


def test_cancelled_calls_are_those_that_were_drawn() -> None:
    """A cancelled call ends when it was to be cancelled, not when the server would have answered."""
    plan = {"loop": constant(64), "seconds": 0.8, "cancelled": 0.5, "cancel_within_seconds": 0.05}
    done = run(DelayedServer(delay=1.0), plan, workers=64)
    (part,) = deal(Plan(target="", warmup_seconds=0.2, **plan), requests())  # type: ignore[arg-type]
    drawn = np.count_nonzero(~np.isnan(part.cancel_after))
    assert 0 < drawn < 64
    assert np.count_nonzero(done.records.status == CANCELLED) == drawn
    assert np.median(done.records.latency[done.records.status == CANCELLED]) < 1.0


def test_a_call_has_its_deadline() -> None:
    """Calls that outlast their deadline are counted as such, and the p99 of all calls is endless."""
    done = run(DelayedServer(delay=1.0), {"loop": constant(20), "seconds": 0.5, "timeout_seconds": 0.2})
    assert set(done.records.status) == {DEADLINE}
    summary = summarize(done)
    assert (summary.answered_rate, summary.strict_p99) == (0, math.inf)
    assert math.isnan(summary.latency.p99)


def test_progress_is_told_while_a_run_lasts() -> None:
    """The last word holds all calls."""
    told: list[Progress] = []
    with delayed_server(DelayedServer(delay=0.001), workers=8) as servicer:
        plan = Plan(target=servicer.target, loop=constant(40), seconds=1.0, warmup_seconds=0)
        carry_out(plan, requests(), watch=told.append)
    assert len(told) > 2
    assert told[-1] == Progress(sent=40, answered=40, failed=0)


def test_a_target_without_a_server_is_said() -> None:
    """One line that names the target."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unused.getsockname()[1]}"
        plan = Plan(target=target, loop=ClosedLoop(callers=1), seconds=0.1)
        with pytest.raises(BenchError, match=f"no server at {target}"):
            carry_out(plan, requests())
