"""A server in a process of its own, on free ports of loopback, and what the kernel says of that process."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bertbench.errors import BenchError
from bertbench.load.scrape import Sample, read_metrics

READY = re.compile(r"ready: grpc (\S+)(?: metrics (\S+))?\n")
STOP_SECONDS = 60.0
END_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """target: HOST:PORT of gRPC. metrics: HOST:PORT of the metrics page, if it has one. ready_seconds: from the start
    of the process to its word that it is ready."""

    launch: Launch
    target: str
    metrics: str | None
    ready_seconds: float

    @property
    def process_id(self) -> int:
        return self.launch.process.pid

    def sample(self) -> Sample:
        """The metrics page. Raises BenchError, with the server's last words if it has ended."""
        if self.metrics is None:
            raise BenchError("this server has no metrics page")
        try:
            return read_metrics(self.metrics)
        except BenchError as error:
            if self.launch.process.poll() is None:
                raise
            raise self.launch.failure() from error

    def memory_bytes(self) -> int:
        """Resident memory now."""
        return self._status("VmRSS")

    def peak_memory_bytes(self) -> int:
        """The most resident memory so far."""
        return self._status("VmHWM")

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        stat = Path(f"/proc/{self.process_id}/stat").read_text(encoding="utf-8")
        # The command's name, in brackets, may hold anything; user and system time are the 14th and 15th field.
        user, system = stat.rpartition(") ")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _status(self, field: str) -> int:
        status = Path(f"/proc/{self.process_id}/status").read_text(encoding="utf-8")
        return int(status.split(f"{field}:")[1].split()[0]) * 1024


@contextlib.contextmanager
def serving(bundle: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """bertserve with a bundle. Raises BenchError, with the server's last words, if it does not become ready."""
    command = [sys.executable, "-m", "bertserve", str(bundle), "--port", "0", "--metrics-port", "0"]
    with started([*command, "--drain-pause", "0", "--log-level", "error", *flags], environment) as server:
        yield server


@contextlib.contextmanager
def started(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """Any server that says READY on stdout. Raises BenchError, with its last words, if it does not."""
    began = time.monotonic()
    with launched(command, environment or {}) as launch:
        ready = next((found for line in launch.process.stdout or () if (found := READY.fullmatch(line))), None)
        if ready is None:
            raise launch.failure()
        seconds = time.monotonic() - began
        yield ServerProcess(launch=launch, target=ready[1], metrics=ready[2], ready_seconds=seconds)


@dataclass(frozen=True, slots=True)
class Launch:
    """A process whose stdout can be read, and whose stderr goes to a file."""

    command: Sequence[str]
    process: subprocess.Popen[str]
    log: IO[bytes]

    def failure(self) -> BenchError:
        """That it ended, or never became ready, and its last words."""
        self.log.seek(0)
        last_words = self.log.read().decode(errors="replace").strip().splitlines()[-1:]
        # Its output ends a moment before it does.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        status = self.process.returncode
        end = "did not become ready" if status is None else f"ended with status {status}"
        return BenchError(f"{' '.join(self.command[:4])} … {end}: {''.join(last_words) or 'without a word'}")


@contextlib.contextmanager
def launched(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Launch]:
    """A process with these variables beside our own; terminated at the end of the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 (ours)
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **environment}
        )
        try:
            yield Launch(command, process, log)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
