"""Logs as JSON lines on stderr. No line holds a caller's text: messages are fixed, facts go into fields.

Lines are written by a thread of their own. Where stderr is full or closed, serving goes on and lines are lost; how many
is said once it takes lines again.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

from bertserve.process.streams import RETRY_SECONDS, STDERR, write_whole

LOGGER = logging.getLogger("bertserve")

# Lines that may wait for a slow reader, some megabytes.
MAX_WAITING_LINES = 10_000

# What gRPC logs of one who left his stream while an answer was on its way to him, and of headers that are no UTF-8.
FAULTS_OF_CALLERS = {"ExecuteBatchError", "UnicodeDecodeError"}

# The id of the request that the running task serves; lines written on its behalf carry it.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, the request's id, the fields passed as `extra={"fields": {…}}`, and
    a traceback.

    Of an exception only its type and the frames are written, and of what a library logs only the message's template:
    the rest may quote a caller's text.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if record.name.partition(".")[0] == LOGGER.name:
            line["message"] = record.getMessage()
        else:
            line |= {"message": "a library reports", "library": record.name}
            if record.args:
                line["template"] = str(record.msg)
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["traceback"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(line, ensure_ascii=False)


class LineWriter(logging.Handler):
    """Formats where a line arises, writes elsewhere. Never blocks, and never raises."""

    def __init__(self, descriptor: int, max_waiting_lines: int = MAX_WAITING_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(max_waiting_lines)
        self._lost = 0
        self._counting = threading.Lock()
        self.setFormatter(JsonFormatter())
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(_encode(self.format(record)))
        except queue.Full:
            self._count_lost(1)

    def wait_until_written(self, timeout_seconds: float) -> None:
        """Before the process ends; a reader who does not read is not waited for longer."""
        ends = time.monotonic() + timeout_seconds
        while self._lines.unfinished_tasks and time.monotonic() < ends:
            time.sleep(RETRY_SECONDS)

    def _write_lines(self) -> None:
        while True:
            line = self._lines.get()
            lost = self._take_lost()
            if lost and not self._write(self._loss(lost)):
                self._count_lost(lost)
            if not self._write(line):
                self._count_lost(1)
            self._lines.task_done()

    def _count_lost(self, lines: int) -> None:
        with self._counting:
            self._lost += lines

    def _take_lost(self) -> int:
        with self._counting:
            lost, self._lost = self._lost, 0
        return lost

    def _loss(self, lines: int) -> bytes:
        fields = {"fields": {"lines": lines}}
        record = LOGGER.makeRecord(LOGGER.name, logging.WARNING, "", 0, "log lines were lost", (), None, extra=fields)
        return _encode(self.format(record))

    def _write(self, line: bytes) -> bool:
        try:
            write_whole(self._descriptor, line)
        except OSError:
            return False
        return True


def _encode(line: str) -> bytes:
    """UTF-8 in any locale. Bytes of a path that are not UTF-8 become U+FFFD, for an escape would be no JSON."""
    return f"{line.encode(errors='surrogateescape').decode(errors='replace')}\n".encode()


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line is worth writing: not what gRPC reports of callers as if it were the server's error."""
    error = record.exc_info[0] if record.exc_info else None
    return error is None or not record.name.startswith("grpc.") or error.__name__ not in FAULTS_OF_CALLERS


def start_logs(level: str) -> None:
    """Write log lines to stderr from now on, those of libraries included.

    Python's own reports become log lines, too: written to a stderr that nobody reads, they would stop their thread.
    """
    writer = LineWriter(STDERR)
    writer.addFilter(is_news)
    logging.getLogger().handlers[:] = [writer]
    LOGGER.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.unraisablehook = lambda report: _log_uncaught(report.exc_type, report.exc_value, report.exc_traceback)
    threading.excepthook = lambda report: _log_uncaught(report.exc_type, report.exc_value, report.exc_traceback)


def finish_logs(timeout_seconds: float) -> None:
    """Let the last lines be written; called before the process ends."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineWriter):
            handler.wait_until_written(timeout_seconds)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    LOGGER.error("nothing caught an error", exc_info=(kind, error or kind(), trace))


def log_failure(message: str, error: BaseException) -> None:
    """An error that is a bug or a broken part: its type and traceback, without its message."""
    LOGGER.error(message, exc_info=(type(error), error, error.__traceback__))


def log(message: str, **fields: object) -> None:
    """A fact of the server's life, at level info."""
    LOGGER.info(message, extra={"fields": fields})


def log_detail(message: str, **fields: object) -> None:
    """What only somebody who looks for something wants to see, at level debug."""
    LOGGER.debug(message, extra={"fields": fields})


def log_warning(message: str, **fields: object) -> None:
    """Something that an operator should look at, while the server serves on."""
    LOGGER.warning(message, extra={"fields": fields})


def log_error(message: str, **fields: object) -> None:
    """A fact that an operator has to look at."""
    LOGGER.error(message, extra={"fields": fields})
