"""`bertbench load` against a real server of tiny bundles."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bertbench.command import app
from bertbench.errors import BenchError
from bertbench.load.driver import carry_out
from bertbench.load.plan import ClosedLoop, Plan
from bertbench.load.requests import prepare
from bertbench.load.tasks import TASKS
from delayed_server import DelayedServer, delayed_server
from servers import RunningServer

pytestmark = [pytest.mark.export, pytest.mark.slow]

TEXTS = ["the cat sat on the mat", "a dog ran home", "rain fell over the old town all night"]
PNG = b"\x89PNG\r\n\x1a\n"


def bertbench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bertbench", "load", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "classify"])
def test_tokens_of_answers_are_those_that_the_engine_ran(server: RunningServer, task: str) -> None:
    """For every task, by the server's own count."""
    series = 'bertserve_tokens_total{model="pretraining"}'
    before = server.sample(series)
    requests = prepare(TEXTS, {task: 1}, {1: 1, 2: 1}, np.random.default_rng(0), count=16)
    plan = Plan(target=server.target, loop=ClosedLoop(callers=2), seconds=0.3, warmup_seconds=0)
    records = carry_out(plan, requests).records
    assert set(records.status) == {0}
    assert records.tokens.sum() == server.sample(series) - before
    assert records.tokens.all() == (task != "tokenize")


def test_several_rates_make_a_table_a_file_and_a_plot(server: RunningServer, tmp_path: Path) -> None:
    """JSON holds every run with its statuses, tasks, and the CPU of generator and server; the plot is a PNG."""
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    done = bertbench(
        server.target, "--rate", "20,40", "--seconds", "1", "--warmup", "0.2", "--mix", "embed=2,fill=1", "--texts",
        texts_file(tmp_path), "--metrics", server.metrics, "--json", figures, "--plot", plot,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "answered/s" in done.stdout
    runs = json.loads(figures.read_text())["runs"]
    assert [run["asked_rate"] for run in runs] == [20, 40]
    assert all(run["statuses"] == {"OK": run["calls"]} and set(run["kinds"]) == {"embed", "fill"} for run in runs)
    assert all(run["client_cpu_cores"] > 0 and run["server"]["rss_bytes"] > 10_000_000 for run in runs)
    assert plot.read_bytes().startswith(PNG)


def test_a_plot_that_cannot_be_written_is_one_line(server: RunningServer, tmp_path: Path) -> None:
    """After the figures, which are not lost."""
    plot = tmp_path / "none" / "plot.png"
    done = bertbench(server.target, "--rate", "20,40", "--seconds", "1", "--warmup", "0", "--plot", plot)
    assert (done.returncode, done.stderr) == (1, f"bertbench: {plot}: No such file or directory\n")
    assert "answered/s" in done.stdout


def test_a_bound_that_the_generator_itself_cannot_keep_is_refused(server: RunningServer) -> None:
    """What it would find says nothing of the server."""
    done = bertbench(server.target, "--find-p99", "0.000001", "--rate", "9", "--seconds", "1", "--warmup", "0")
    assert done.returncode == 1
    assert "the generator fell behind" in done.stderr


def test_the_highest_rate_that_meets_a_p99_is_found() -> None:
    """A server that takes 50 ms for one call at a time can answer twenty a second, and twice that for one second."""
    with delayed_server(DelayedServer(delay=0.05), workers=1) as servicer:
        done = bertbench(servicer.target, "--find-p99", "1", "--rate", "8", "--arrivals", "constant", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    found = re.search(r"highest rate with p99 of all calls ≤ 1.00 s: ([\d.]+) calls/s", done.stdout)
    assert found, done.stdout
    assert 2 <= float(found[1]) <= 45


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "fast"], "--rate: 'fast' is no number"),
        (["--rate", "0"], "a rate that is not above zero"),
        (["--rate", "5", "--callers", "2"], "give one of them"),
        (["--find-p99", "0.1", "--rate", "5,6"], "give one"),
        (["--mix", "dream"], "dream is no task"),
        (["--texts", "missing.txt"], "cannot be read"),
    ],
)
def test_options_that_cannot_be_are_refused(options: list[str], message: str) -> None:
    """By a message of one line, before anything is sent."""
    with pytest.raises(BenchError, match=message) as refused:
        app(["load", "127.0.0.1:1", *options])
    assert "\n" not in str(refused.value)


def texts_file(folder: Path) -> Path:
    path = folder / "texts.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path
