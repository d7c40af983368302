"""The subcommands of `bertbench`; what each does stands in a module or package of its name."""

from __future__ import annotations

import typer

from bertbench.autoscaling.command import autoscaling
from bertbench.balancing.command import balancing
from bertbench.checkpoint import checkpoint
from bertbench.floods.command import floods
from bertbench.graph.command import graph
from bertbench.load.command import load
from bertbench.peers.command import peers
from bertbench.serving.command import app as serving

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
app.command()(graph)
app.command()(checkpoint)
app.command()(load)
app.command()(peers)
app.command()(balancing)
app.command()(autoscaling)
app.command()(floods)
app.add_typer(serving, name="serving")


@app.callback()
def bertbench() -> None:
    """Measure what bertserve serves."""
