"""A run in figures. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray

from bertbench.load.driver import Run
from bertbench.load.plan import OpenLoop
from bertbench.load.records import Records
from bertbench.load.scrape import Sample

CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Seconds; NaN where there was no call. Nearest rank: each is a time that a call really took."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSummary:
    """Calls of one kind of request."""

    calls: int
    statuses: dict[str, int]
    latency: Percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSummary:
    """By the server's own metrics, over the run. cpu_cores: processor time ÷ time. rss_bytes: at the end.

    busy_lanes: lanes that were running a batch, on average. engine_tokens_per_second: tokens that the engine ran,
    answered or not.
    """

    cpu_cores: float
    rss_bytes: float
    busy_lanes: float
    engine_tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run showed. Rates are per second of the run; of calls, those count that ended within it.

    asked_rate: calls due a second, None in a closed loop. latency: of answered calls, from when they were due.
    strict_p99: of all calls, where one without an answer took for ever. lag: from when calls were due to when they
    were sent; the generator's own fault. client_cpu_cores, client_cpu_micros: the generator's processor time ÷ time,
    and per call sent.
    """

    seconds: float
    asked_rate: float | None
    sent_rate: float
    answered_rate: float
    texts_per_second: float
    tokens_per_second: float
    calls: int
    statuses: dict[str, int]
    latency: Percentiles
    strict_p99: float
    lag: Percentiles
    kinds: dict[str, KindSummary]
    client_cpu_cores: float
    client_cpu_micros: float
    server: ServerSummary | None


def summarize(run: Run) -> Summary:
    """Figures of a run, its warm-up left out."""
    plan, seconds = run.plan, run.plan.seconds
    calls = run.records.where(run.records.intended >= 0)
    answered = run.records.where(_is_answered(run.records) & (run.records.ended >= 0) & (run.records.ended < seconds))
    return Summary(
        seconds=seconds,
        asked_rate=plan.loop.rate if isinstance(plan.loop, OpenLoop) else None,
        sent_rate=len(calls) / seconds,
        answered_rate=len(answered) / seconds,
        texts_per_second=float(answered.texts.sum()) / seconds,
        tokens_per_second=float(answered.tokens.sum()) / seconds,
        calls=len(calls),
        statuses=count_statuses(calls),
        latency=percentiles(calls.latency[_is_answered(calls)]),
        strict_p99=strict_quantile(calls, 0.99),
        lag=percentiles(calls.sent - calls.intended),
        kinds={str(kind): _summarize_kind(calls.where(calls.kind == kind)) for kind in np.unique(calls.kind)},
        client_cpu_cores=run.client_cpu_seconds / seconds,
        client_cpu_micros=run.client_cpu_seconds / len(calls) * 1e6 if len(calls) else math.nan,
        server=None if run.before is None or run.after is None else _compare(run.before, run.after, seconds),
    )


def percentiles(seconds: NDArray[np.float64]) -> Percentiles:
    return Percentiles(
        p50=quantile(seconds, 0.5), p90=quantile(seconds, 0.9), p99=quantile(seconds, 0.99), max=quantile(seconds, 1.0)
    )


def quantile(values: NDArray[np.float64], share: float) -> float:
    """The least value that at least this share of the values does not exceed; NaN of none."""
    if not len(values):
        return math.nan
    # A hair less, so that 0.99 × 100, which floating point makes 99.00000000000001, is rank 99.
    rank = max(1, math.ceil(share * len(values) * (1 - 1e-12)))
    return float(np.partition(values, rank - 1)[rank - 1])


def strict_quantile(calls: Records, share: float) -> float:
    """A quantile of the latency of all calls, where one without an answer took for ever."""
    return quantile(np.where(_is_answered(calls), calls.latency, np.inf), share)


def count_statuses(calls: Records) -> dict[str, int]:
    """Calls by name of gRPC's code, the most frequent first."""
    return {CODES[code]: count for code, count in Counter(calls.status.tolist()).most_common()}


def _summarize_kind(calls: Records) -> KindSummary:
    return KindSummary(
        calls=len(calls), statuses=count_statuses(calls), latency=percentiles(calls.latency[_is_answered(calls)])
    )


def _compare(before: Sample, after: Sample, seconds: float) -> ServerSummary:
    def gained(name: str) -> float:
        return (after.sum(name) - before.sum(name)) / seconds

    return ServerSummary(
        cpu_cores=gained("process_cpu_seconds_total"),
        rss_bytes=after.sum("process_resident_memory_bytes"),
        busy_lanes=gained("bertserve_engine_busy_seconds_total"),
        engine_tokens_per_second=gained("bertserve_tokens_total"),
    )


def _is_answered(records: Records) -> NDArray[np.bool_]:
    return np.equal(records.status, grpc.StatusCode.OK.value[0])
