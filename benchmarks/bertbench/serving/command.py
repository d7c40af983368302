"""`bertbench serving FIGURE BUNDLE`: one figure of a server under load, from one command, on one machine.

What measures is imported when a command runs: ONNX Runtime takes a while to load.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from bertserve.process.cores import usable_cores
from rich.console import Console, RenderableType

from bertbench.console import figures_console
from bertbench.load.tables import write_json
from bertbench.machine import describe_machine

app = typer.Typer(no_args_is_help=True)

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to serve.")]
Texts = Annotated[Path | None, typer.Option(help="Texts to make requests of, one a line; built-in ones without it.")]
Seconds = Annotated[float, typer.Option(min=1.0, help="How long each run counts.")]
Flags = Annotated[str, typer.Option("--server", help="Flags for bertserve, as in '--lanes 2 --batch-tokens 128'.")]
BatchTokens = Annotated[int, typer.Option(min=1, help="Tokens in a batch at most.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")]


@app.callback()
def serving() -> None:
    """Start a server in a process of its own, put it under load, and show one figure of it."""


@app.command()
def saturation(
    bundle: BundlePath,
    texts: Texts = None,
    seconds: Seconds = 6.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often both are measured, in turn.")] = 3,
    batch_tokens: BatchTokens = 256,
    json_file: JsonFile = None,
) -> None:
    """The server's tokens/s beside the engine's own, with one lane a core, and with one wide session."""
    from bertbench.serving.saturation import Arrangement, measure_saturation, saturation_json, saturation_table
    from bertbench.serving.workload import Workload, open_bundle

    cores = usable_cores()
    found = [
        measure_saturation(
            Workload(open_bundle(bundle), texts), arrangement, Console(stderr=True),
            cores=cores, batch_tokens=batch_tokens, seconds=seconds, rounds=rounds,
        )
        for arrangement in (Arrangement(lanes=cores, threads=1), Arrangement(lanes=1, threads=cores))
    ]  # fmt: skip
    _show(bundle, saturation_table(found), {"arrangements": saturation_json(found)}, json_file)


@app.command()
def overload(
    bundle: BundlePath, texts: Texts = None, seconds: Seconds = 15.0, server: Flags = "", json_file: JsonFile = None
) -> None:
    """Answers, refusals and memory at three times what the server can do."""
    from bertbench.serving.findings import findings_table, overload_findings
    from bertbench.serving.overload import measure_overload
    from bertbench.serving.workload import Workload, open_bundle

    found = measure_overload(Workload(open_bundle(bundle), texts), Console(stderr=True), server.split(), seconds)
    _show(bundle, findings_table("Overload", [*overload_findings(found)]), asdict(found), json_file)


@app.command()
def neighbours(
    bundle: BundlePath, texts: Texts = None, seconds: Seconds = 30.0, server: Flags = "", json_file: JsonFile = None
) -> None:
    """The p99 of short texts beside long ones that take 30 % of capacity, at 60 % of it in all."""
    from bertbench.serving.findings import findings_table, neighbours_findings
    from bertbench.serving.neighbours import measure_neighbours
    from bertbench.serving.workload import Workload, open_bundle

    found = measure_neighbours(Workload(open_bundle(bundle), texts), Console(stderr=True), server.split(), seconds)
    _show(bundle, findings_table("Short beside long texts", [*neighbours_findings(found)]), asdict(found), json_file)


@app.command()
def cancellations(
    bundle: BundlePath, texts: Texts = None, seconds: Seconds = 20.0, server: Flags = "", json_file: JsonFile = None
) -> None:
    """Tokens that ran beside tokens answered, while three callers in ten leave."""
    from bertbench.serving.cancellations import measure_cancellations
    from bertbench.serving.findings import cancellations_findings, findings_table
    from bertbench.serving.workload import Workload, open_bundle

    found = measure_cancellations(Workload(open_bundle(bundle), texts), Console(stderr=True), server.split(), seconds)
    _show(bundle, findings_table("Cancellations", [*cancellations_findings(found)]), asdict(found), json_file)


@app.command()
def memory(
    bundle: BundlePath,
    texts: Texts = None,
    first: Annotated[int, typer.Option(min=1, help="Requests after which memory counts as steady.")] = 2_000,
    requests: Annotated[int, typer.Option(min=2, help="Requests in all.")] = 20_000,
    server: Flags = "",
    json_file: JsonFile = None,
) -> None:
    """Memory after requests of random shapes, the peak of loading, and what idling costs."""
    from bertbench.serving.findings import findings_table, memory_findings
    from bertbench.serving.memory import measure_memory
    from bertbench.serving.workload import Workload, open_bundle

    workload = Workload(open_bundle(bundle), texts)
    found = measure_memory(workload, Console(stderr=True), server.split(), first, requests)
    _show(bundle, findings_table("Memory", [*memory_findings(found)]), asdict(found), json_file)


@app.command()
def startup(
    bundle: BundlePath,
    rounds: Annotated[int, typer.Option(min=1, help="How often both are timed.")] = 5,
    server: Flags = "",
    json_file: JsonFile = None,
) -> None:
    """Start to ready, beside reading the files and creating the session alone."""
    from bertbench.serving.findings import findings_table, startup_findings
    from bertbench.serving.startup import measure_startup
    from bertbench.serving.workload import open_bundle

    found = measure_startup(open_bundle(bundle), server.split(), rounds)
    _show(bundle, findings_table("Startup", [*startup_findings(found)]), asdict(found), json_file)


@app.command("call-cost")
def call_cost(
    bundle: BundlePath,
    rounds: Annotated[int, typer.Option(min=1, help="How often both are measured, in turn.")] = 15,
    calls: Annotated[int, typer.Option(min=100, help="Calls of each in a round.")] = 2_000,
    json_file: JsonFile = None,
) -> None:
    """What an Embed of one text costs the event loop, beside a bare handler with a ready answer."""
    from bertbench.serving.call_cost import measure_call_cost
    from bertbench.serving.findings import call_cost_findings, findings_table
    from bertbench.serving.workload import open_bundle

    found = measure_call_cost(open_bundle(bundle), rounds, calls)
    _show(bundle, findings_table("Cost of a call", [*call_cost_findings(found)]), asdict(found), json_file)


def _show(bundle: Path, table: RenderableType, figures: dict[str, Any], json_file: Path | None) -> None:
    machine, console = describe_machine(), figures_console()
    console.print(f"{bundle}, {machine}", highlight=False)
    console.print(table)
    if json_file is not None:
        write_json(json_file, {"bundle": str(bundle), "machine": asdict(machine), **figures})
