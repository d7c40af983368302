"""`bertserve [BUNDLE …]`: serve until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn

import uvloop

from bertserve.bundle import BundleError
from bertserve.listening import ServerError
from bertserve.logs import finish_logs, start_logs
from bertserve.server import open_server
from bertserve.settings import Settings, SettingsError, read_settings

# For a reader of stderr to take the last lines.
LAST_LINES_SECONDS = 1.0

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

LOST = 3

# New objects after which the garbage collector looks at the young ones. Those of a call are gone without it, so that
# Python's own 700 mostly finds calls under way, again and again.
COLLECT_AFTER_OBJECTS = 5_000


def main() -> None:
    """Exit 0 after a drain, 1 where it cannot start, 2 for a wrong flag or variable, 3 with engine or port lost."""
    try:
        settings = read_settings(sys.argv[1:])
    except SettingsError as error:
        _leave(_complain(str(error), code=2))
    start_logs(settings.log_level)
    for number in STOP_SIGNALS:
        signal.signal(number, _leave_at_once)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(_serve(settings))
        _leave(status)
    except SettingsError as error:
        _leave(_complain(str(error), code=2))
    except (BundleError, ServerError) as error:
        _leave(_complain(str(error), code=1))


async def _serve(settings: Settings) -> int:
    """The exit status."""
    stop = asyncio.Event()
    async with open_server(settings) as server:
        _spare_loaded()
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        print(f"ready: grpc {server.addresses.grpc} metrics {server.addresses.metrics}", flush=True)  # noqa: T201
        ends = [asyncio.create_task(stop.wait()), asyncio.create_task(server.lost())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await server.abandon()
            return LOST
        await server.drain()
        return LOST if server.engine_lost.is_set() else 0


def _spare_loaded() -> None:
    """Keep the garbage collector away from what was loaded and stays: that took a tenth of the event loop's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, *gc.get_threshold()[1:])


def _leave(status: int) -> NoReturn:
    """At once, so that neither a thread that never comes back nor a full disk changes the exit status."""
    finish_logs(LAST_LINES_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _leave_at_once(number: int, frame: object) -> None:  # noqa: ARG001 - the signature is signal's
    """Before it is ready the server has accepted nothing, and loading cannot be interrupted otherwise."""
    os._exit(128 + number)


def _complain(message: str, code: int) -> int:
    # The line that says why stands last.
    finish_logs(LAST_LINES_SECONDS)
    with contextlib.suppress(OSError):
        print(f"bertserve: {message}", file=sys.stderr, flush=True)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
