"""The options of `bertbench load`, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertbench.load.arrivals import Arrivals

Target = Annotated[str, typer.Argument(metavar="TARGET", help="HOST:PORT of a server, or any gRPC name.")]
Rates = Annotated[
    str | None, typer.Option("--rate", help="Open loop: calls a second; several, as in 50,100,200, run in turn.")
]
Callers = Annotated[
    int | None,
    typer.Option(min=1, help="Closed loop: callers, each of whom sends again once answered; 8 without --rate."),
]
HowCallsArrive = Annotated[Arrivals, typer.Option(help="How calls of an open loop arrive.")]
FindP99 = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Find the highest rate at which the p99 of all calls is no more than this."),
]
Seconds = Annotated[float, typer.Option(min=0.1, help="How long a run counts.")]
Warmup = Annotated[float, typer.Option(min=0.0, help="Seconds of the same load before that, left out.")]
MixOfTasks = Annotated[str, typer.Option(help="embed, fill, nsp, analyze, classify, tokenize, by weight.")]
Sizes = Annotated[str, typer.Option(help="Texts in a request, by weight, as in 1=9,16=1.")]
Texts = Annotated[
    Path | None, typer.Option(help="Texts to send, one a line; without it, sentences of 23 tokens or so.")
]
Model = Annotated[str, typer.Option(help="Name of a served model; the server's first without it.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Deadline of a call in seconds.")]
Cancel = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the calls that are cancelled at random.")]
CancelWithin = Annotated[float, typer.Option(min=0.0, help="Seconds after sending within which they are.")]
Processes = Annotated[int, typer.Option(min=1, max=64, help="Client processes.")]
Connections = Annotated[int, typer.Option(min=1, max=1024, help="Connections of each client process.")]
Seed = Annotated[int, typer.Option(min=0, help="Of arrivals, mix, sizes and cancellations.")]
MetricsPage = Annotated[
    str | None,
    typer.Option("--metrics", metavar="HOST:PORT", help="The server's metrics port: its CPU, memory and tokens."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="PNG of latency over rate to write.")]
