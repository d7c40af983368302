"""Real servers in processes of their own, on free ports of loopback."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BUNDLES = Path(__file__).parent / "bundles"
PRETRAINING = BUNDLES / "pretraining"
CLASSIFIER = BUNDLES / "classifier"
PLAIN = BUNDLES / "plain"
TAGGER = BUNDLES / "tagger"

READY = re.compile(r"ready: grpc (\S+) metrics (\S+)\n")


@dataclass(slots=True)
class RunningServer:
    """A server process. target: HOST:PORT of gRPC; metrics: HOST:PORT of HTTP; log: what it wrote to stderr so far."""

    process: subprocess.Popen[str]
    target: str
    metrics: str
    log: list[str] = field(default_factory=list)

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the metrics port."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def sample(self, series: str) -> float:
        """The value of a series, written as Prometheus does, such as `bertserve_tokens_total{model="a"}`."""
        for name, value in self.samples():
            if name == series:
                return value
        raise KeyError(series)

    def samples(self) -> Iterator[tuple[str, float]]:
        """Every series and its value."""
        for line in self.page("/metrics")[1].splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                yield name, float(value)

    def wait_for(self, series: str, value: float) -> None:
        """Until a series has reached a value. A refusal is counted once it is sent: its caller may have it before."""
        ends = time.monotonic() + 60
        while self.sample(series) < value:
            assert time.monotonic() < ends, f"{series} stays at {self.sample(series)}"
            time.sleep(0.01)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "bertserve", *map(str, arguments)]


def start_refused(*arguments: str | Path) -> tuple[int, str]:
    """Exit status and the last line on stderr of a server that must not start."""
    ended = subprocess.run(
        command("--port", "0", "--metrics-port", "0", *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    assert not ended.stdout
    return ended.returncode, ended.stderr.splitlines()[-1]


@contextlib.contextmanager
def running_server(
    *arguments: str | Path, environment: dict[str, str] | None = None, program: Path | None = None
) -> Iterator[RunningServer]:
    """A server that said ready; killed at the end of the block if it still runs. program: in place of bertserve."""
    started = command("--port", "0", "--metrics-port", "0", "--drain-pause", "0.1", *arguments)
    process = subprocess.Popen(
        started if program is None else [sys.executable, str(program), *started[3:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr), daemon=True)  # type: ignore[arg-type]
    reader.start()
    try:
        ready = READY.fullmatch(process.stdout.readline())  # type: ignore[union-attr]
        if ready is None:
            process.wait(timeout=60)
            reader.join(timeout=10)
            raise AssertionError(f"the server did not become ready: {''.join(log)}")
        yield RunningServer(process, ready[1], ready[2], log)
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=10)
        process.stdout.close()  # type: ignore[union-attr]
        process.stderr.close()  # type: ignore[union-attr]
