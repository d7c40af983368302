"""`bertbench balancing`: even shares, new replicas, killed and drained ones, through each way to them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bertbench.balancing.proxies import ProxyKind
from bertbench.balancing.tables import trial_json, trials_table
from bertbench.balancing.trial import Plan, try_path
from bertbench.console import figures_console
from bertbench.errors import BenchError
from bertbench.load.tables import write_json
from bertbench.machine import describe_machine

CLIENT = "client"

Paths = Annotated[
    list[str] | None, typer.Argument(metavar="[PATH]…", help="client, envoy, nginx, haproxy; all without one.")
]
Examples = Annotated[Path, typer.Option(help="Folder of the proxies' configurations.")]
Seconds = Annotated[float, typer.Option(min=1.0, help="How long shares are counted and each loss is watched.")]
RoundsOf = Annotated[int, typer.Option(min=1, help="Replicas killed, and as many drained and retired.")]
CallersOf = Annotated[int, typer.Option(min=1, help="Callers of each client.")]
DrainPause = Annotated[float, typer.Option(min=0.0, help="The replicas' --drain-pause.")]
ConnectionAge = Annotated[
    float, typer.Option(min=0.5, help="--max-connection-age of replicas that the client balances itself.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")]


def balancing(
    paths: Paths = None,
    examples: Examples = Path("deploy/proxies"),
    seconds: Seconds = 3.0,
    rounds: RoundsOf = 3,
    callers: CallersOf = 12,
    drain_pause: DrainPause = 3.0,
    connection_age: ConnectionAge = 4.0,
    json_file: JsonFile = None,
) -> None:
    """Replicas of the demo model behind the client's round robin, Envoy, nginx and HAProxy: shares and lost calls."""
    plan = Plan(
        examples=examples, seconds=seconds, rounds=rounds, callers=callers, drain_pause=drain_pause,
        connection_age=connection_age,
    )  # fmt: skip
    progress, console = Console(stderr=True), figures_console()
    trials = [try_path(path, plan, progress) for path in read_paths(paths or [CLIENT, *ProxyKind])]
    machine = describe_machine()
    console.print(str(machine), highlight=False)
    console.print(trials_table(trials))
    if json_file is not None:
        write_json(json_file, {"machine": asdict(machine), "trials": [trial_json(trial) for trial in trials]})


def read_paths(names: list[str]) -> list[ProxyKind | None]:
    """None for the client's own balancing. Raises BenchError."""
    known = [CLIENT, *ProxyKind]
    if unknown := [name for name in names if name not in known]:
        raise BenchError(f"{', '.join(unknown)}: no such way to replicas; there are {', '.join(known)}")
    return [None if name == CLIENT else ProxyKind(name) for name in names]
