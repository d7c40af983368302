"""The report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from bertbench.graph.findings import Finding, Row, rows
from bertbench.graph.report import Figure, Report


def report_tables(report: Report, findings: list[Finding]) -> Iterator[Table]:
    """What was tried, what came out, and what it means."""
    yield arrangements_table(report)
    yield shapes_table(report)
    if any(row.baselines for row in rows(report.shaped)):
        yield baselines_table(report)
    yield findings_table(findings)


def arrangements_table(report: Report) -> Table:
    table = _table(f"tokens/s by lanes × threads, {report.arranged[0].shape.name}")
    names = list(dict.fromkeys(one.contestant for one in report.arranged))
    table.add_column("")
    for arrangement in sorted({one.arrangement for one in report.arranged}):
        table.add_column(str(arrangement), justify="right")
    for name in names:
        mine = sorted((one for one in report.arranged if one.contestant == name), key=lambda one: one.arrangement)
        best = max(one.rates.median for one in mine)
        table.add_row(name, *(_best(one, best) for one in mine))
    return table


def shapes_table(report: Report) -> Table:
    """Each graph beside its ceiling."""
    shaped = rows(report.shaped)
    table = _table("tokens/s by shape, and share of the ceiling")
    table.add_column("texts × tokens")
    for graph in shaped[0].graphs:
        table.add_column(f"{graph.contestant}\n{graph.arrangement}", justify="right")
        table.add_column("ceiling\n", justify="right")
        table.add_column("share\n", justify="right")
    for row in shaped:
        cells = [cell for graph in row.graphs for cell in _graph_cells(row, graph)]
        table.add_row(row.graphs[0].shape.name, *cells)
    return table


def baselines_table(report: Report) -> Table:
    """The graphs again, and how often as fast as each baseline."""
    shaped = rows(report.shaped)
    table = _table("real tokens/s, padded baselines")
    table.add_column("texts × tokens")
    for graph in shaped[0].graphs:
        table.add_column(graph.contestant, justify="right")
    for baseline in shaped[0].baselines:
        table.add_column(f"{baseline.contestant}\n{baseline.arrangement}", justify="right")
    for row in shaped:
        table.add_row(row.graphs[0].shape.name, *(_rate(one) for one in (*row.graphs, *row.baselines)))
    return table


def findings_table(findings: list[Finding]) -> Table:
    table = _table("what it means")
    table.add_column("graph")
    table.add_column("")
    table.add_column("ratio", justify="right")
    for finding in findings:
        table.add_row(finding.graph, finding.name, f"{finding.ratio:.2f}")
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", show_edge=False)


def _graph_cells(row: Row, graph: Figure) -> Iterator[str]:
    yield _rate(graph)
    yield _rate(row.ceilings[graph.contestant])
    yield f"{row.share(graph).median:.2f}"


def _rate(figure: Figure) -> str:
    return f"{figure.rates.median:,.0f} ±{figure.rates.spread:.0%}"


def _best(figure: Figure, best: float) -> str:
    return f"[bold]{_rate(figure)}[/]" if figure.rates.median == best else _rate(figure)
