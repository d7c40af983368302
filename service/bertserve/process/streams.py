"""The standard streams, as the program's starter left them: closed, full, or read by nobody.

They never end the process, and the process never waits for them without a bound.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from typing import Any

STDIN = 0
STDOUT = 1
STDERR = 2

RETRY_SECONDS = 0.05


def mend_streams() -> None:
    """Open closed standard streams on /dev/null. Let the others take any text, and stderr fail no program.

    Call this before anything opens a file. Otherwise a socket gets number 1 or 2, and with it what libraries print;
    libuv ends the process when it closes a descriptor below 3.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python has no object for a stream that was closed. Its libraries expect one.
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(STDIN, closefd=False)))
    if sys.stdout is None:
        sys.stdout = _writer(STDOUT)
    if sys.stderr is None or type(sys.stderr) is io.TextIOWrapper:
        sys.stderr = io.TextIOWrapper(
            _LossyWriter(), getattr(sys.stderr, "encoding", None), "backslashreplace", write_through=True
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # stderr does so by itself


def write_whole(descriptor: int, data: bytes) -> None:
    """Write past Python's own streams, whose locks a blocked write would hold until the interpreter ends.

    Waits as long as nobody reads. Raises OSError.
    """
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # another process made the pipe non-blocking, and it is full
            time.sleep(RETRY_SECONDS)


def write_in_time(descriptor: int, text: str, timeout_seconds: float) -> None:
    """Write a text if the stream takes it. Return after the timeout if nobody reads."""

    def write() -> None:
        with contextlib.suppress(OSError):
            write_whole(descriptor, encode(text))

    writing = threading.Thread(target=write, name="last words", daemon=True)
    writing.start()
    writing.join(timeout_seconds)


def encode(text: str) -> bytes:
    """UTF-8 in any locale. Bytes of a path that are not UTF-8 are written as escapes, such as `\\xe8`."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace").encode()


def _writer(descriptor: int) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return io.TextIOWrapper(buffer, errors="backslashreplace", write_through=True)


class _LossyWriter(io.RawIOBase):
    """Standard error, which loses what it cannot take: no step of a program may fail because its report does."""

    def fileno(self) -> int:
        return STDERR

    def isatty(self) -> bool:
        return os.isatty(STDERR)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            write_whole(STDERR, bytes(data))
        return len(data)
