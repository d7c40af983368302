"""Where `bertcall` writes: standard output and standard error, whatever state they were handed over in."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from bertapi.inputs import UsageError

STANDARD_ERROR = 2


def keep_descriptors() -> None:
    """Open closed standard streams on /dev/null, or a connection gets their numbers, and with it what libraries print.

    To Python they stay closed: `sys.stdout` is None.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)


def prepare_output(*, as_json: bool) -> None:
    """JSON is UTF-8 whatever the terminal. A table loses a bar's block rather than fail where it cannot be encoded.

    Raises UsageError if there is no output at all.
    """
    if sys.stdout is None:  # started with it closed
        raise UsageError("standard output is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        if as_json:
            sys.stdout.reconfigure(encoding="utf-8")
        else:
            sys.stdout.reconfigure(errors="replace")


def discard_output() -> None:
    """Drop what was not written, or the interpreter complains when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """A line on standard error. If that takes none, the exit code has to do."""
    if sys.stderr is not None:  # to print, None stands for standard output
        with contextlib.suppress(OSError):
            print(f"bertcall: {message}", file=sys.stderr)  # noqa: T201 - the command's output
