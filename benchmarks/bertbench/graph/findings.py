"""What the figures mean: each graph's share of its ceiling, and what it gains over the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bertbench.graph.report import Figure, Report
from bertbench.graph.runners import Kind, Task
from bertbench.graph.shapes import EQUAL_SENTENCES, SENTENCES
from bertbench.rounds import Rounds, median_of_medians

# Below, a batch is too small to fill the machine.
LARGE_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A ratio and what it says of which graph."""

    graph: str
    name: str
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All that was measured on one shape. graphs, baselines: in the order in which they ran; a ceiling by its graph."""

    graphs: tuple[Figure, ...]
    ceilings: dict[str, Figure]
    baselines: tuple[Figure, ...]

    def share(self, graph: Figure) -> Rounds:
        """The graph's rate ÷ its ceiling's."""
        return graph.rates.over(self.ceilings[graph.contestant].rates)


def rows(figures: Sequence[Figure]) -> list[Row]:
    """A row a shape, in the order of the figures."""
    by_shape: dict[str, list[Figure]] = {}
    for figure in figures:
        by_shape.setdefault(figure.shape.name, []).append(figure)
    return [_row(members) for members in by_shape.values()]


def _row(members: Sequence[Figure]) -> Row:
    graphs = tuple(one for one in members if one.kind is Kind.GRAPH)
    return Row(
        graphs=graphs,
        ceilings={
            graph.contestant: next(
                one
                for one in members
                if one.kind is Kind.CEILING and (one.precision, one.arrangement) == (graph.precision, graph.arrangement)
            )
            for graph in graphs
        },
        baselines=tuple(one for one in members if one.kind is Kind.BASELINE),
    )


def find(report: Report) -> list[Finding]:
    """All findings about each graph: see `benchmarks/README.md` for how each is counted."""
    shaped = rows(report.shaped)
    return [
        finding
        for position, graph in enumerate(shaped[0].graphs)
        for finding in (
            *_share_of_ceiling(shaped, position, graph.contestant),
            *_gain_over_fp32(shaped, position, graph),
            *_mixed_over_equal(report.shaped, graph.contestant),
            *_gain_over_baselines(shaped, position, graph.contestant),
            *_costs(report.tasks, graph.contestant),
        )
    ]


def _large(shaped: Sequence[Row]) -> list[Row]:
    return [row for row in shaped if row.graphs[0].shape.tokens >= LARGE_TOKENS]


def _share_of_ceiling(shaped: Sequence[Row], position: int, graph: str) -> list[Finding]:
    shares = [row.share(row.graphs[position]) for row in _large(shaped)]
    if not shares:
        return []
    name = f"share of its ceiling, median over shapes of ≥ {LARGE_TOKENS} tokens"
    return [Finding(graph=graph, name=name, ratio=median_of_medians(shares))]


def _gain_over_fp32(shaped: Sequence[Row], position: int, graph: Figure) -> list[Finding]:
    bases = [index for index, one in enumerate(shaped[0].graphs) if one.precision == "fp32"]
    large = _large(shaped)
    if graph.precision == "fp32" or not bases or not large:
        return []
    base = bases[0]
    gains = [row.graphs[position].rates.over(row.graphs[base].rates) for row in large]
    name = f"÷ {shaped[0].graphs[base].contestant}, median over shapes of ≥ {LARGE_TOKENS} tokens"
    return [Finding(graph=graph.contestant, name=name, ratio=median_of_medians(gains))]


def _mixed_over_equal(figures: Sequence[Figure], graph: str) -> list[Finding]:
    rates = {one.shape.name: one.rates for one in figures if one.contestant == graph}
    if not {SENTENCES.name, EQUAL_SENTENCES.name} <= rates.keys():
        return []
    ratio = rates[SENTENCES.name].over(rates[EQUAL_SENTENCES.name]).median
    return [Finding(graph=graph, name=f"{SENTENCES.name} ÷ {EQUAL_SENTENCES.name}", ratio=ratio)]


def _gain_over_baselines(shaped: Sequence[Row], position: int, graph: str) -> list[Finding]:
    return [
        Finding(
            graph=graph,
            name=f"÷ {baseline.contestant}, {baseline.shape.name}",
            ratio=row.graphs[position].rates.over(baseline.rates).median,
        )
        for row in shaped
        if row.graphs[0].shape.is_mixed
        for baseline in row.baselines
    ]


def _costs(tasks: Sequence[Figure], graph: str) -> list[Finding]:
    """Time, so rates the other way round."""
    rates = {one.task: one.rates for one in tasks if one.contestant == graph}
    return [
        Finding(graph=graph, name=f"cost of {task} ÷ {Task.EMBEDDING}", ratio=rates[Task.EMBEDDING].over(own).median)
        for task, own in rates.items()
        if task is not Task.EMBEDDING
    ]
