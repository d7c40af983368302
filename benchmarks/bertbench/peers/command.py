"""`bertbench peers`: bertserve beside what a user would otherwise write or install."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from bertserve.cores import usable_cores
from rich.console import Console

from bertbench.console import figures_console
from bertbench.load.plot import plot_latency
from bertbench.load.tables import write_json
from bertbench.machine import describe_machine

TEXTS = 1024


def peers(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What bertserve serves.")],
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="What it was exported from, for the peers.")],
    texts: Annotated[Path | None, typer.Option(help="Texts to send, one a line; built-in ones without it.")] = None,
    mean_tokens: Annotated[float, typer.Option(min=4.0, help="Tokens of a text, on average.")] = 30.0,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each run counts.")] = 10.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of every server; one a core without it.")] = None,
    infinity: Annotated[
        Path | None, typer.Option(help="infinity_emb of an environment that has Infinity; left out without it.")
    ] = None,
    triton: Annotated[
        Path | None, typer.Option(help="python of an environment that has nvidia-pytriton; left out without it.")
    ] = None,
    kserve: Annotated[
        Path | None,
        typer.Option(help="python of an environment with kserve and transformers; left out without it."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="PNG of latency over rate to write.")] = None,
) -> None:
    """Throughput and latency of bertserve and its peers, one after another, with as many threads each."""
    # ONNX Runtime takes a while to load: not for --help.
    from bertbench.peers import comparison
    from bertbench.serving.workload import Workload, open_bundle

    workload = Workload(open_bundle(bundle), texts)
    drawn = workload.texts_of_mean(mean_tokens, TEXTS)
    contestants = comparison.contestants(
        workload,
        drawn,
        checkpoint,
        threads or usable_cores(),
        infinity_program=infinity,
        kserve_python=kserve,
        triton_python=triton,
    )
    found = comparison.compare(contestants, Console(stderr=True), seconds)
    machine, console = describe_machine(), figures_console()
    console.print(f"{bundle}, {machine}", highlight=False)
    console.print(comparison.comparison_table(found))
    if json_file is not None:
        write_json(json_file, {"machine": asdict(machine), "peers": [asdict(peer) for peer in found]})
    if plot_file is not None:
        plot_latency(plot_file, {peer.name: peer.loaded for peer in found})
