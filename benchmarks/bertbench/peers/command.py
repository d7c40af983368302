"""`bertbench peers`: bertserve beside what a user would otherwise write or install."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from bertserve.process.cores import usable_cores
from rich.console import Console

from bertbench.console import figures_console
from bertbench.load.plot import plot_latency
from bertbench.load.tables import write_json
from bertbench.machine import describe_machine

TEXTS = 1024


BundleDirectory = Annotated[Path, typer.Argument(metavar="BUNDLE", help="What bertserve serves.")]
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="What it was exported from, for the peers.")]
Texts = Annotated[Path | None, typer.Option(help="Texts to send, one a line; built-in ones without it.")]
MeanTokens = Annotated[float, typer.Option(min=4.0, help="Tokens of a text, on average.")]
Seconds = Annotated[float, typer.Option(min=0.5, help="How long each run counts.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of every server; one a core without it.")]
Infinity = Annotated[Path | None, typer.Option(help="infinity_emb of an environment that has Infinity.")]
Triton = Annotated[Path | None, typer.Option(help="python of an environment that has nvidia-pytriton.")]
KServe = Annotated[Path | None, typer.Option(help="python of an environment that has kserve and transformers.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="PNG of latency over rate to write.")]


def peers(
    bundle: BundleDirectory,
    checkpoint: Checkpoint,
    texts: Texts = None,
    mean_tokens: MeanTokens = 30.0,
    seconds: Seconds = 10.0,
    threads: Threads = None,
    triton: Triton = None,
    kserve: KServe = None,
    infinity: Infinity = None,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Throughput and latency of bertserve and its peers, one after another, with as many threads each; peers that want
    environments of their own are left out without them."""
    # ONNX Runtime takes a while to load: not for --help.
    from bertbench.peers import comparison
    from bertbench.peers.contestants import Environments, contestants
    from bertbench.serving.workload import Workload, open_bundle

    workload = Workload(open_bundle(bundle), texts)
    drawn = workload.texts_of_mean(mean_tokens, TEXTS)
    environments = Environments(triton=triton, kserve=kserve, infinity=infinity)
    compared = contestants(workload, drawn, checkpoint, threads or usable_cores(), environments)
    found = comparison.compare(compared, Console(stderr=True), seconds)
    machine, console = describe_machine(), figures_console()
    console.print(f"{bundle}, {machine}", highlight=False)
    console.print(comparison.comparison_table(found))
    if json_file is not None:
        write_json(json_file, {"machine": asdict(machine), "peers": [asdict(peer) for peer in found]})
    if plot_file is not None:
        plot_latency(plot_file, {peer.name: peer.loaded for peer in found})
