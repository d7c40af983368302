"""What SIGINT and SIGTERM do: end the command at once while it loads, and by KeyboardInterrupt once it writes.

A supervisor's SIGTERM must clean up as Ctrl-C does. Imports nothing heavy, for it comes before all that is.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
INTERRUPTED_LINE = "interrupted; nothing was written"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


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


def _exit(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 (the signature of a handler)
    os.write(2, f"bertexport: {INTERRUPTED_LINE}\n".encode())
    os._exit(INTERRUPTED)
