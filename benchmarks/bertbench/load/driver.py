"""Carries out a plan: starts the client processes, gives them one start, and joins what they recorded."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from bertbench.errors import BenchError
from bertbench.load.client import Finished, Progress, Unreachable
from bertbench.load.plan import ClientPart, Plan, deal
from bertbench.load.records import Records, join
from bertbench.load.requests import PreparedRequest
from bertbench.load.scrape import Sample, read_metrics

CLIENT_PROCESS = "from bertbench.load.client import main; main()"

# From the word to the first call, so that every process has heard it.
START_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a plan led to. records: warm-up included. client_cpu_seconds: of all client processes, warm-up left out.

    before, after: the server's metrics at the start and the end of the run, if its page was told.
    """

    plan: Plan
    records: Records
    client_cpu_seconds: float
    before: Sample | None
    after: Sample | None


def carry_out(
    plan: Plan,
    requests: tuple[PreparedRequest, ...],
    *,
    metrics: str | None = None,
    watch: Callable[[Progress], None] = lambda _progress: None,
) -> Run:
    """Run a plan to its end. metrics: HOST:PORT of the server's metrics; watch: called with progress of all processes.

    Raises BenchError: no server at the target, no metrics page, or a client process that died.
    """
    with _client_processes(deal(plan, requests)) as clients:
        for client in clients:
            if isinstance(_receive(client), Unreachable):
                raise BenchError(f"no server at {plan.target}; start one with 'bertserve BUNDLE', or name another")
        start = time.monotonic() + START_SECONDS + plan.warmup_seconds
        for client in clients:
            client.send(start)
        samples = _Samples(metrics, start, start + plan.seconds)
        finished = _collect(clients, samples, watch)
    return Run(
        plan=plan,
        records=join([part.records for part in finished]),
        client_cpu_seconds=sum(part.cpu_seconds for part in finished),
        before=samples.taken[0] if metrics else None,
        after=samples.taken[1] if metrics else None,
    )


class _Samples:
    """Reads the metrics page once at each of two moments."""

    def __init__(self, metrics: str | None, *moments: float) -> None:
        self._metrics = metrics
        self._moments = list(moments) if metrics else []
        self.taken: list[Sample] = []

    def seconds_to_next(self) -> float | None:
        return max(0.0, self._moments[0] - time.monotonic()) if self._moments else None

    def take_if_due(self) -> None:
        while self._metrics and self._moments and self._moments[0] <= time.monotonic():
            self._moments.pop(0)
            self.taken.append(read_metrics(self._metrics))


def _collect(clients: list[Connection], samples: _Samples, watch: Callable[[Progress], None]) -> list[Finished]:
    finished: dict[Connection, Finished] = {}
    latest = dict.fromkeys(clients, Progress())
    while len(finished) < len(clients) or samples.seconds_to_next() is not None:
        for client in wait([c for c in clients if c not in finished], samples.seconds_to_next()):
            message = _receive(client)  # type: ignore[arg-type]
            if isinstance(message, Finished):
                finished[client] = message  # type: ignore[index]
            else:
                latest[client] = message  # type: ignore[index]
        watch(_sum(latest.values()))
        samples.take_if_due()
    return list(finished.values())


def _sum(parts: Any) -> Progress:
    parts = list(parts)
    return Progress(
        sent=sum(part.sent for part in parts),
        answered=sum(part.answered for part in parts),
        failed=sum(part.failed for part in parts),
    )


@contextmanager
def _client_processes(parts: list[ClientPart]) -> Iterator[list[Connection]]:
    """A connection to a new process for each part; all are gone at the end."""
    connections: list[Connection] = []
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for part in parts:
            ours, theirs = Pipe()
            connections.append(ours)
            # Once our copy is closed, a process that dies is seen to; in a group of its own, Ctrl-C reaches us alone.
            with theirs:
                command = [sys.executable, "-c", CLIENT_PROCESS, str(theirs.fileno())]
                processes.append(subprocess.Popen(command, pass_fds=[theirs.fileno()], process_group=0))  # noqa: S603 (ours)
            ours.send(part)
        yield connections
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for connection in connections:
            connection.close()


def _receive(client: Connection) -> Any:
    try:
        return client.recv()
    except (EOFError, ConnectionResetError) as error:
        raise BenchError("a client process died before its run was over; its own message stands above") from error
