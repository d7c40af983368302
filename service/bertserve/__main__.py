"""`bertserve [BUNDLE …]`: serve until told to stop."""

from __future__ import annotations

# ruff: noqa: E402 - what is imported below may open files
from bertserve.process.streams import STDERR, STDOUT, encode, mend_streams, write_in_time, write_whole

mend_streams()

import asyncio
import contextlib
import io
import os
import signal
import sys
import threading
from typing import NoReturn

import uvloop

from bertserve.bundle import BundleError
from bertserve.doors.door import ServerError
from bertserve.observe.logs import finish_logs, log_failure, log_warning, start_logs
from bertserve.process.garbage import spare_loaded
from bertserve.settings import Settings, SettingsError, read_settings

try:
    from bertserve.server import open_server
except ImportError as error:
    # pip installs bertapi, and then removes bertserve 0.1.0, which contained files of the same names.
    if not (error.name or "").startswith("bertapi"):
        raise
    sys.exit(
        "bertserve: files of bertapi are missing; pip removes them together with bertserve 0.1.0. Restore them:"
        " pip install --force-reinstall --no-deps bertapi (in a clone: pip install ./proto)"
    )

# For a reader of stderr to take the last lines.
LAST_LINES_SECONDS = 1.0

# A terminal that hangs up ends the server as SIGTERM does, unless `nohup` says otherwise.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

LOST = 3


def main() -> None:
    """Exit 0 after a drain, 1 where it cannot start, 2 for a wrong flag or variable, 3 with engine or port lost."""
    try:
        settings = _read_settings()
    except SettingsError as error:
        _leave(_complain(str(error), code=2))
    start_logs(settings.log_level)
    for number in _stop_signals():
        signal.signal(number, _leave_at_once)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(_serve(settings))
        _leave(status)
    except SettingsError as error:
        _leave(_complain(str(error), code=2))
    except (BundleError, ServerError) as error:
        _leave(_complain(str(error), code=1))
    except Exception as error:
        log_failure("the server failed", error)
        _leave(_complain("the server failed; its log holds the trace", code=1))


def _read_settings() -> Settings:  # noqa: RET503 - its last line does not return
    """Raises SettingsError. Exits after `--help` and wrong flags, without waiting for a stderr that nobody reads."""
    with contextlib.redirect_stdout(io.StringIO()) as help_text, contextlib.redirect_stderr(io.StringIO()) as complaint:
        try:
            return read_settings(sys.argv[1:])
        except SystemExit as left:
            status = int(left.code or 0)
    write_in_time(STDERR, complaint.getvalue(), LAST_LINES_SECONDS)
    try:
        write_whole(STDOUT, encode(help_text.getvalue()))
    except OSError as error:
        status = _complain(f"standard output cannot be written: {error.strerror}", code=1)
    _leave(status)


async def _serve(settings: Settings) -> int:
    """The exit status."""
    stop = asyncio.Event()
    async with open_server(settings) as server:
        spare_loaded()
        for number in _stop_signals():
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        _announce(f"ready: {server.addresses}\n")
        ends = [asyncio.create_task(stop.wait()), asyncio.create_task(server.lost())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await server.abandon()
            return LOST
        await server.drain()
        return LOST if server.engine_lost.is_set() else 0


def _announce(line: str) -> None:
    """Write to stdout on a thread of its own, for nobody may read it."""

    def write() -> None:
        try:
            write_whole(STDOUT, encode(line))
        except OSError as error:
            log_warning("stdout did not take the ready line", why=error.strerror)

    threading.Thread(target=write, name="ready", daemon=True).start()


def _stop_signals() -> list[signal.Signals]:
    """Those that end the server."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [number for number in STOP_SIGNALS if number is not signal.SIGHUP or hangs_up]


def _leave(status: int) -> NoReturn:
    """At once, so that neither a thread that never comes back nor a full disk changes the exit status."""
    finish_logs(LAST_LINES_SECONDS)
    os._exit(status)


def _leave_at_once(number: int, frame: object) -> None:  # noqa: ARG001 - the signature is signal's
    """Before it is ready the server has accepted nothing, and loading cannot be interrupted otherwise."""
    os._exit(128 + number)


def _complain(message: str, code: int) -> int:
    # The line that says why stands last.
    finish_logs(LAST_LINES_SECONDS)
    write_in_time(STDERR, f"bertserve: {message}\n", LAST_LINES_SECONDS)
    return code


if __name__ == "__main__":
    main()
