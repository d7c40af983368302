"""Standard streams that are closed, full or read by nobody, and terminals that hang up: the server lives on."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from bertapi.client import BertClient
from closed_streams import without_streams
from servers import PLAIN, command, running_server

CLOSED = [fds for count in (1, 2, 3) for fds in itertools.combinations((0, 1, 2), count)]


@pytest.mark.parametrize("closed", CLOSED, ids=lambda fds: "".join(map(str, fds)))
def test_closed_streams_are_opened_on_nothing(closed: tuple[int, ...], tmp_path: Path) -> None:
    """No file that is opened later gets their numbers, and what libraries print goes nowhere."""
    program = (
        "from bertserve.process.streams import mend_streams; mend_streams()\n"
        "import os, sys, socket\n"
        f"for fd in {closed}: assert os.path.samestat(os.fstat(fd), os.stat(os.devnull)), fd\n"
        "with socket.socket() as later: assert later.fileno() > 2\n"
        "assert not sys.stdin.read(); print('out'); print('err', file=sys.stderr)\n"
        f"open({str(tmp_path / 'done')!r}, 'w').close()\n"
    )
    quiet = subprocess.DEVNULL
    arguments = without_streams(closed, [sys.executable, "-c", program])
    ended = subprocess.run(arguments, stdin=quiet, stdout=quiet, stderr=quiet, check=False)
    assert (ended.returncode, (tmp_path / "done").exists()) == (0, True)


@contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb") as full:
        yield full.fileno()


@contextmanager
def unread_pipe() -> Iterator[int]:
    """One that holds all it can, and takes no more."""
    reading, writing = os.pipe()
    os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)))
    yield writing
    os.close(reading)
    os.close(writing)


@contextmanager
def broken_pipe() -> Iterator[int]:
    """One whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def no_stream() -> Iterator[int]:
    yield subprocess.DEVNULL


STREAMS = {"closed": no_stream, "full": full_disk, "unread": unread_pipe, "broken": broken_pipe}


def start(stream: int, *arguments: str | Path, closed: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    words = without_streams(closed, command(*arguments))
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_that_take_nothing_end_no_server(kind: str) -> None:
    """It becomes ready, answers while it logs every call, and leaves with status 0."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--port", str(port), "--metrics-port", "0", "--drain-pause", "0", "--log-level", "debug", PLAIN]
    closed = (0, 1, 2) if kind == "closed" else ()
    with STREAMS[kind]() as stream, start(stream, *arguments, closed=closed) as process:
        with BertClient(f"127.0.0.1:{port}") as client:
            client.wait_ready(60)
            for _ in range(20):
                client.embed(["cat"])
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("kind", ["full", "unread", "broken"])
def test_a_refused_start_ends_with_its_status_whatever_takes_its_reason(kind: str) -> None:
    """A wrong flag and a missing bundle, where stderr takes no line."""
    with STREAMS[kind]() as stream:
        wrong, missing = start(stream, "--no-such-flag"), start(stream, "--port", "0", "/nowhere")
        assert (wrong.wait(timeout=60), missing.wait(timeout=60)) == (2, 1)


def test_help_that_cannot_be_written_is_a_failure() -> None:
    """As on a full disk."""
    with full_disk() as full:
        ended = subprocess.run(command("--help"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        1,
        "bertserve: standard output cannot be written: No space left on device\n",
    )


@contextmanager
def heeding_hangups() -> Iterator[None]:
    """Let a program that starts in the block heed SIGHUP, even if these tests run under nohup."""
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, inherited)


def test_a_terminal_that_hangs_up_ends_the_server_by_a_drain() -> None:
    """Those who called are answered, and the status is that of a drain."""
    with heeding_hangups(), running_server(PLAIN) as server:
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(timeout=60) == 0


def test_a_server_under_nohup_outlives_its_terminal() -> None:
    """The signal stays ignored if it was ignored at the start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running_server(PLAIN) as server:
            server.process.send_signal(signal.SIGHUP)
            with BertClient(server.target) as client:
                assert client.embed(["cat"])
            assert server.stop() == 0
    finally:
        signal.signal(signal.SIGHUP, before)
