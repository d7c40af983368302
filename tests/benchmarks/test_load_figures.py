"""How a run is condensed, and how the highest rate is searched: pure functions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from bertbench.load.driver import Run
from bertbench.load.plan import OpenLoop, Plan
from bertbench.load.records import Records, join
from bertbench.load.scrape import parse_metrics
from bertbench.load.search import Search, Trial, highest_met, lowest_failed, next_rate
from bertbench.load.summary import quantile, summarize
from bertbench.load.tables import seconds_text, write_json
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.export

SHARES = (0.0, 0.5, 0.9, 0.99, 1.0)


def records(latencies: list[float], status: int = 0, first: float = 0.0) -> Records:
    intended = first + np.arange(len(latencies)) * 0.1
    return Records(
        intended=intended,
        sent=intended + 0.001,
        ended=intended + np.array(latencies),
        status=np.full(len(latencies), status),
        kind=np.full(len(latencies), "embed"),
        texts=np.ones(len(latencies), dtype=np.int64),
        tokens=np.full(len(latencies), 0 if status else 5),
    )


def run_of(found: Records, seconds: float = 10.0) -> Run:
    plan = Plan(target="", loop=OpenLoop(rate=10), seconds=seconds)
    return Run(plan=plan, records=found, client_cpu_seconds=0.5, before=None, after=None)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.sampled_from(SHARES))
def test_a_quantile_is_a_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    """At least the share asked lies at or below it, and less than that share below it."""
    found = quantile(np.array(values), share)
    assert found in values
    assert np.count_nonzero(np.array(values) <= found) >= share * len(values) * (1 - 1e-9)
    if share > 0:
        assert np.count_nonzero(np.array(values) < found) < share * len(values)


def test_the_p99_of_a_hundred_is_the_last_but_one() -> None:
    """Floating point does not push it to the last."""
    assert quantile(np.arange(1.0, 101.0), 0.99) == 99


@given(st.lists(st.lists(st.floats(0, 10), max_size=30), min_size=1, max_size=5))
def test_figures_of_joined_parts_are_those_of_all_calls(parts: list[list[float]]) -> None:
    """Percentiles over processes are over the union of their calls, not means of percentiles."""
    joined = join([records(part, first=index * 0.01) for index, part in enumerate(parts)])
    latencies = [latency for part in parts for latency in part]
    assert len(joined) == len(latencies)
    assert np.all(np.diff(joined.intended) >= 0)
    assert sorted(joined.latency) == pytest.approx(sorted(latencies), abs=1e-9)


def test_warm_up_is_left_out() -> None:
    """Calls due before the start do not count, nor do answers after the end."""
    summary = summarize(run_of(records([0.05] * 100, first=-5.0), seconds=3.0))
    assert summary.calls == 50
    # Those due from -0.05 s to 2.95 s were answered within the three seconds.
    assert summary.answered_rate == pytest.approx(30 / 3.0, abs=0.4)
    assert summary.tokens_per_second == pytest.approx(5 * summary.answered_rate)


def test_a_call_without_an_answer_took_for_ever() -> None:
    """Two refusals of a hundred calls leave the answered ones' p99 alone, but not the p99 of all."""
    summary = summarize(run_of(join([records([0.01] * 98), records([0.001] * 2, status=8)])))
    assert summary.statuses == {"OK": 98, "RESOURCE_EXHAUSTED": 2}
    assert summary.latency.p99 == pytest.approx(0.01)
    assert summary.strict_p99 == math.inf


@given(limit=st.floats(0.5, 5000), start=st.floats(1, 500))
def test_the_search_finds_what_a_server_can_do(limit: float, start: float) -> None:
    """Of a server that meets the bound up to a rate: the answer is within the precision below it, after few trials."""
    search = Search(start=start, precision=0.05)
    trials: list[Trial] = []
    while (rate := next_rate(search, trials)) is not None:
        trials.append(Trial(rate=rate, met=rate <= limit))
        assert len(trials) <= 40
    answer = highest_met(trials)
    if answer is None:
        assert limit < start * 2 * search.give_up
    else:
        assert answer <= limit < answer * 1.05 * (1 + 1e-9)
        assert sum(trial.rate == answer for trial in trials) == 1 + search.confirmations


@given(st.lists(st.booleans(), min_size=200, max_size=200))
def test_a_search_ends_whatever_the_server_does(outcomes: list[bool]) -> None:
    """With outcomes drawn at random it ends too, and answers with a rate at which no trial failed, nor below it."""
    search = Search(start=64.0)
    trials: list[Trial] = []
    for met in outcomes:
        rate = next_rate(search, trials)
        if rate is None:
            break
        trials.append(Trial(rate=rate, met=met and rate < 1e6))
    else:
        pytest.fail("the search did not end")
    answer = highest_met(trials)
    assert answer is None or answer < lowest_failed(trials)


def test_a_metrics_page_is_read_by_series() -> None:
    """Sums run over the series that carry the labels asked."""
    page = '# TYPE a counter\na_total{x="1",y="1"} 2\na_total{x="1",y="2"} 3\na_total{x="2",y="1"} 10\n'
    sample = parse_metrics(page)
    assert (sample.sum("a_total"), sample.sum("a_total", x="1"), sample.sum("a_total", x="3")) == (15, 5, 0)


def test_json_has_no_endless_numbers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """What is no number in JSON becomes null."""
    write_json(tmp_path / "figures.json", {"p99": math.inf, "runs": [{"p50": math.nan, "calls": 3}]})
    assert json.loads((tmp_path / "figures.json").read_text()) == {"p99": None, "runs": [{"p50": None, "calls": 3}]}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00123, "1.2 ms"), (0.25, "250 ms"), (2.5, "2.50 s"), (math.inf, "∞"), (math.nan, "–")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    """Milliseconds below a second; a sign where there is no number."""
    assert seconds_text(seconds) == text
