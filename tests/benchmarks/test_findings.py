"""What is read off the figures of a run."""

from __future__ import annotations

import json

import pytest
from bertbench.graph.findings import find
from bertbench.graph.lanes import Arrangement
from bertbench.graph.measure import choose_arrangements
from bertbench.graph.record import report_json
from bertbench.graph.report import Figure, Report, Settings
from bertbench.graph.runners import Contestant, Kind, Task
from bertbench.graph.shapes import SENTENCES, Shape, equal_lengths
from bertbench.machine import Machine
from bertbench.rounds import Rounds

pytestmark = pytest.mark.export

WIDE, NARROW = Arrangement(1, 2), Arrangement(2, 1)
KINDS = {
    "fp32": Kind.GRAPH,
    "int8": Kind.GRAPH,
    "ceiling fp32": Kind.CEILING,
    "ceiling u8×s8": Kind.CEILING,
    "padded graph fp32": Kind.BASELINE,
}
# Contestant → tokens/s on 1×16, on 8×30, on sentences.
RATES = {
    "fp32": (50, 100, 90),
    "int8": (60, 300, 288),
    "ceiling fp32": (60, 125, 120),
    "ceiling u8×s8": (80, 400, 360),
    "padded graph fp32": (40, 80, 45),
}


def figure(
    contestant: str, shape: Shape, rate: float, task: Task = Task.EMBEDDING, where: Arrangement = NARROW
) -> Figure:
    return Figure(
        contestant=contestant,
        kind=KINDS[contestant],
        precision="int8" if contestant in {"int8", "ceiling u8×s8"} else "fp32",
        shape=shape,
        arrangement=where,
        task=task,
        rates=Rounds((float(rate), rate * 0.5, rate * 1.5)),
    )


@pytest.fixture
def report() -> Report:
    """One small shape, two large ones, two graphs with their ceilings and a baseline."""
    shapes = (equal_lengths(1, 16), equal_lengths(8, 30), SENTENCES)
    shaped = [figure(name, shape, RATES[name][place]) for place, shape in enumerate(shapes) for name in KINDS]
    tasks = [
        figure("int8", SENTENCES, rate, task)
        for task, rate in {Task.EMBEDDING: 110, Task.MASKED_WORD: 100, Task.NEXT_SENTENCE: 110}.items()
    ]
    return Report(
        started="2026-01-01T00:00:00+00:00",
        machine=Machine(processor="some", cores=2, flags=("avx2",), python="3.11", versions={}),
        settings=Settings(batch_tokens=256, seconds=0.1, rounds=3),
        arranged=tuple(shaped),
        shaped=tuple(shaped),
        tasks=tuple(tasks),
        others=0.0,
        notes=(),
    )


@pytest.mark.parametrize(
    ("graph", "name", "ratio"),
    [
        ("fp32", "share of its ceiling, median over shapes of ≥ 128 tokens", (0.8 + 0.75) / 2),
        ("int8", "share of its ceiling, median over shapes of ≥ 128 tokens", (0.75 + 0.8) / 2),
        ("int8", "÷ fp32, median over shapes of ≥ 128 tokens", (3.0 + 3.2) / 2),
        ("fp32", "sentences ÷ 8×30", 0.9),
        ("fp32", "÷ padded graph fp32, sentences", 2.0),
        ("int8", "÷ padded graph fp32, sentences", 6.4),
        ("int8", "cost of masked word ÷ embedding", 1.1),
        ("int8", "cost of next sentence ÷ embedding", 1.0),
    ],
)
def test_a_finding(report: Report, graph: str, name: str, ratio: float) -> None:
    """Counted by hand from the rates above; the small shape counts for nothing."""
    found = {(finding.graph, finding.name): finding.ratio for finding in find(report)}
    assert found[graph, name] == pytest.approx(ratio)


def test_a_ceiling_runs_as_the_graph_beneath_it() -> None:
    """Everything else takes the arrangement in which it is fastest itself."""
    rates = {"fp32": (90, 100), "ceiling fp32": (130, 120), "padded graph fp32": (50, 40)}
    arranged = [
        figure(name, SENTENCES, rate, where=where)
        for name, pair in rates.items()
        for where, rate in zip((WIDE, NARROW), pair, strict=True)
    ]
    contestants = [
        Contestant(name=name, kind=KINDS[name], precision="fp32", load=lambda _: pytest.fail("loaded"))
        for name in rates
    ]
    chosen = {contestant.name: arrangement for contestant, arrangement in choose_arrangements(contestants, arranged)}
    assert chosen == {"fp32": NARROW, "ceiling fp32": NARROW, "padded graph fp32": WIDE}


def test_the_record_holds_every_round(report: Report) -> None:
    """A program can count anew."""
    record = json.loads(report_json(report, find(report)))
    first = record["shaped"][0]
    assert (first["contestant"], first["shape"]["name"], first["lanes"], first["threads"]) == ("fp32", "1×16", 2, 1)
    assert first["rates"] == [50.0, 25.0, 75.0]
    assert first["median"] == 50.0
    assert {"graph": "fp32", "name": "sentences ÷ 8×30", "ratio": pytest.approx(0.9)} in record["findings"]
