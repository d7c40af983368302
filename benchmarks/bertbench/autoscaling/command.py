"""`bertbench autoscaling`: the autoscaler's metric before, under and after load."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bertbench.autoscaling.plot import plot_moments
from bertbench.autoscaling.trial import TARGET_SECONDS, Load, measure_autoscaling
from bertbench.console import figures_console
from bertbench.load.tables import seconds_text, write_json
from bertbench.machine import describe_machine

Monitoring = Annotated[Path, typer.Option(help="Folder of the rules for Prometheus and its adapter.")]
CallersOf = Annotated[int, typer.Option(min=1, help="Callers in a closed loop.")]
Seconds = Annotated[float, typer.Option(min=1.0, help="How long there is load.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="PNG of the metric over time to write.")]


def autoscaling(
    monitoring: Monitoring = Path("deploy/monitoring"),
    callers: CallersOf = 32,
    seconds: Seconds = 15.0,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """What the autoscaler sees of a server under load, through Prometheus and the adapter's rule."""
    moments = measure_autoscaling(monitoring, Load(callers=callers, seconds=seconds))
    machine, console = describe_machine(), figures_console()
    console.print(str(machine), highlight=False)
    most = max(moments, key=lambda moment: moment.wait)
    for name, moment in (("before", moments[0]), ("most", most), ("after", moments[-1])):
        console.print(f"{name}: {seconds_text(moment.wait)}, pods wanted: {moment.pods}", highlight=False)
    console.print(f"target: {seconds_text(TARGET_SECONDS)}", highlight=False)
    if json_file is not None:
        write_json(json_file, {"machine": asdict(machine), "moments": [asdict(moment) for moment in moments]})
    if plot_file is not None:
        plot_moments(plot_file, moments)
