"""The command: floods against one installation of bertserve, or against several by turns."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bertbench.console import figures_console
from bertbench.errors import BenchError
from bertbench.floods.findings import floods_json, floods_table
from bertbench.floods.measure import measure_floods, merge_rounds
from bertbench.load.tables import write_json
from bertbench.machine import describe_machine
from bertbench.progress import Progress

THIS = "this"

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to serve.")]
Servers = Annotated[
    list[str] | None,
    typer.Option("--server", metavar="NAME=PYTHON", help="Python of an installation; several are measured by turns."),
]
Seconds = Annotated[float, typer.Option(min=0.5, help="How long each caller calls, alone and during each flood.")]
RoundsOf = Annotated[int, typer.Option(min=1, help="How often each flood is sent to each server.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")]


def floods(
    bundle: Bundle, servers: Servers = None, seconds: Seconds = 5.0, rounds: RoundsOf = 1, json_file: JsonFile = None
) -> None:
    """Peak memory and a small caller's latency while other clients send too much, too slowly, or read nothing."""
    runs = measure_floods(bundle, read_servers(servers or []), seconds, rounds, Progress(Console(stderr=True)))
    merged, machine, console = merge_rounds(runs), describe_machine(), figures_console()
    console.print(f"{bundle}, {machine}", highlight=False)
    console.print(floods_table(merged))
    if json_file is not None:
        write_json(
            json_file,
            {"bundle": str(bundle), "machine": asdict(machine), "rounds": rounds, "floods": floods_json(merged)},
        )


def read_servers(words: list[str]) -> dict[str, Path]:
    """Name → Python; this installation without words. Raises BenchError."""
    servers: dict[str, Path] = {}
    for word in words:
        name, equals, python = word.partition("=")
        if not (name and equals and python) or name in servers:
            raise BenchError(f"--server {word}: state NAME=PYTHON, each name once")
        servers[name] = Path(python)
    return servers or {THIS: Path(sys.executable)}
