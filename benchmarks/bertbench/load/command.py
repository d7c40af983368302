"""`bertbench load`: one run, several rates, or the search for the highest rate that meets a p99."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from bertbench.console import figures_console
from bertbench.errors import BenchError
from bertbench.load import options
from bertbench.load.arrivals import Arrivals
from bertbench.load.generator import Found, Generator
from bertbench.load.plan import ClosedLoop, OpenLoop, Plan
from bertbench.load.plot import plot_latency
from bertbench.load.requests import prepare, read_mix, read_sizes
from bertbench.load.tables import rates_table, seconds_text, summary_table, write_json
from bertbench.load.texts import read_texts

DEFAULT_CALLERS = 8
FIRST_RATE = 16.0


def load(
    target: options.Target,
    rate: options.Rates = None,
    callers: options.Callers = None,
    arrivals: options.HowCallsArrive = Arrivals.POISSON,
    find_p99: options.FindP99 = None,
    seconds: options.Seconds = 10.0,
    warmup: options.Warmup = 1.0,
    mix: options.MixOfTasks = "embed",
    sizes: options.Sizes = "1",
    texts: options.Texts = None,
    model: options.Model = "",
    timeout: options.Timeout = 10.0,
    cancel: options.Cancel = 0.0,
    cancel_within: options.CancelWithin = 0.1,
    processes: options.Processes = 1,
    connections: options.Connections = 1,
    seed: options.Seed = 0,
    metrics: options.MetricsPage = None,
    json_file: options.JsonFile = None,
    plot_file: options.PlotFile = None,
) -> None:
    """Put a server under load. Latency counts from when each call was due, not from when it was sent."""
    rates = read_rates(rate)
    check_loop(rates, callers, find_p99)
    rng = np.random.default_rng(seed)
    requests = prepare(read_texts(texts), read_mix(mix), read_sizes(sizes), rng, model=model)
    plan = Plan(
        target=target, loop=ClosedLoop(callers=callers or DEFAULT_CALLERS), seconds=seconds, warmup_seconds=warmup,
        timeout_seconds=timeout, cancelled=cancel, cancel_within_seconds=cancel_within, processes=processes,
        connections=connections, seed=seed,
    )  # fmt: skip
    generator = Generator(requests=requests, metrics=metrics, console=Console(stderr=True))
    if find_p99 is not None:
        found = generator.find_rate(plan, arrivals, find_p99, rates[0] if rates else FIRST_RATE)
    else:
        found = generator.run_each(plan, [OpenLoop(rate=each, arrivals=arrivals) for each in rates] or [plan.loop])
    _show(figures_console(), target, found, find_p99)
    _write(found, json_file, plot_file)


def read_rates(text: str | None) -> list[float]:
    """`50,100,200` as calls a second. Raises BenchError."""
    try:
        rates = [float(part) for part in text.split(",")] if text is not None else []
    except ValueError as error:
        raise BenchError(f"--rate: {text!r} is no number, nor several with commas between them") from error
    if not all(0 < rate < float("inf") for rate in rates):
        raise BenchError(f"--rate: {text!r} holds a rate that is not above zero")
    return rates


def check_loop(rates: Sequence[float], callers: int | None, find_p99: float | None) -> None:
    """Raises BenchError where the options contradict each other."""
    if callers is not None and (rates or find_p99 is not None):
        raise BenchError("--callers is a closed loop, --rate and --find-p99 are open ones; give one of them")
    if find_p99 is not None and len(rates) > 1:
        raise BenchError("--find-p99 starts at one --rate and finds the others itself; give one")


def _show(console: Console, target: str, found: Found, find_p99: float | None) -> None:
    if len(found.summaries) == 1:
        console.print(summary_table(target, found.summaries[0]))
    else:
        console.print(rates_table(target, found.summaries))
    if find_p99 is not None:
        bound = f"p99 of all calls ≤ {seconds_text(find_p99)}"
        console.print(f"highest rate with {bound}: {'none' if found.rate is None else f'{found.rate:,.1f} calls/s'}")


def _write(found: Found, json_file: Path | None, plot_file: Path | None) -> None:
    if json_file is not None:
        write_json(json_file, {"highest_rate": found.rate, "runs": [asdict(summary) for summary in found.summaries]})
    if plot_file is not None:
        plot_latency(plot_file, {"": found.summaries})
