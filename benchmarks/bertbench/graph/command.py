"""What `bertbench graph` does with its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from bertserve.bundle import Bundle, BundleError, read_bundle
from rich.console import Console

from bertbench.console import figures_console
from bertbench.errors import BenchError
from bertbench.progress import Progress

if TYPE_CHECKING:
    from bertbench.graph.report import Report

# Share of the cores taken by other processes, beyond which a figure is not worth keeping.
DISTURBED = 0.03


def graph(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles of one model's shape.")],
    batch_tokens: Annotated[int, typer.Option(help="Tokens in a batch at most, as in the server.", min=1)] = 256,
    rounds: Annotated[int, typer.Option(help="How often each figure is taken.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="Least time that each figure takes in a round.", min=0.001)] = 0.4,
    baselines: Annotated[bool, typer.Option(help="Measure padded baselines too.")] = True,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time goes, by operator.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write every figure to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG.")] = None,
) -> None:
    """Measure tokens/s by batch shape, beside this machine's ceiling and padded baselines."""
    console, progress = figures_console(), Progress(Console(stderr=True))
    opened = open_bundles(bundles)
    for target in filter(None, (json, plot)):
        if not target.resolve().parent.is_dir():
            raise BenchError(f"{target.parent}: no such directory; make it, for the figures take minutes")
    # ONNX Runtime takes a while to load: not for --help.
    from bertbench.graph.measure import measure_graph
    from bertbench.graph.report import Settings

    settings = Settings(batch_tokens=batch_tokens, seconds=seconds, rounds=rounds)
    report = measure_graph(opened, settings, baselines, progress)
    _show(report, console, json, plot)
    if profile:
        _profile(opened, report, console, progress)


def open_bundles(paths: list[Path]) -> list[Bundle]:
    """Read bundles that can be compared. Raises BenchError."""
    try:
        opened = [read_bundle(path.resolve()) for path in paths]
    except BundleError as error:
        raise BenchError(str(error)) from error
    names = [bundle.path.name for bundle in opened]
    if len(set(names)) < len(names):
        raise BenchError(f"{', '.join(names)}: two bundles of one name cannot be told apart; rename a directory")
    shapes = [
        (one.model.hidden_size, one.model.intermediate_size, one.model.layer_count, one.model.vocabulary_size)
        for one in opened
    ]
    if len(set(shapes)) > 1:
        raise BenchError(f"{', '.join(names)}: models of different shapes have different ceilings; one run for each")
    return opened


def _show(report: Report, console: Console, json: Path | None, plot: Path | None) -> None:
    from bertbench.graph.findings import find
    from bertbench.graph.plot import draw_plot
    from bertbench.graph.record import report_json
    from bertbench.graph.tables import report_tables

    findings = find(report)
    console.print(f"{report.started}  {report.machine}", highlight=False)
    console.print(f"other processes took {report.others:.1%} of the cores", highlight=False)
    for table in report_tables(report, findings):
        console.print()
        console.print(table)
    disturbed = ["other processes took so much of the cores that the figures are too low"]
    for note in (*report.notes, *(disturbed if report.others > DISTURBED else ())):
        console.print(f"[bold red]{note}[/]")
    if json:
        json.write_text(report_json(report, findings), encoding="utf-8")
    if plot:
        draw_plot(report, plot)


def _profile(bundles: list[Bundle], report: Report, console: Console, progress: Progress) -> None:
    from bertbench.graph.profile import profile_bundle, profile_table

    for bundle in bundles:
        with progress.step(f"Profile {bundle.path.name}"):
            shares = profile_bundle(bundle, report.settings.batch_tokens)
        console.print()
        console.print(profile_table(bundle.path.name, shares))
