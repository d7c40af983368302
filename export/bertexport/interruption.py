"""What SIGINT, SIGTERM and SIGHUP do: end the command at once while it loads, by KeyboardInterrupt once it writes.

A supervisor's SIGTERM and a terminal that hangs up must clean up as Ctrl-C does. Imports nothing heavy, for it comes
before all that is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
INTERRUPTED_LINE = "interrupted; nothing was written"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_when_interrupted() -> None:
    """Without unwinding: a KeyboardInterrupt out of a library's import may come out as anything, or not at all."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def raise_when_interrupted() -> None:
    """KeyboardInterrupt, so that whatever was begun is taken away."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Of an interruption within the block nothing is heard: what it does is done whole, and too late to take back."""
    if threading.current_thread() is not threading.main_thread():  # where no signal is handled, nor any handler set
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interruptions() -> None:
    """For what is left to do once all is written."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def exit_interrupted() -> NoReturn:
    """Say so and end at once, whatever other threads wait for: a hub, for one, may take its time."""
    with contextlib.suppress(OSError):  # a terminal that hung up takes no line
        sys.stderr.flush()
        os.write(2, f"bertexport: {INTERRUPTED_LINE}\n".encode())
    os._exit(INTERRUPTED)


def _exit(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 (the signature of a handler)
    exit_interrupted()
