"""Logs as JSON lines on stderr. No line holds a caller's text: messages are fixed, facts go into fields."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

LOGGER = logging.getLogger("bertserve")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, the fields passed as `extra={"fields": {…}}`, and a traceback.

    Of an exception only its type and the frames are written: its message may quote a caller's text.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["traceback"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(line, ensure_ascii=False)


def start_logs(level: str) -> None:
    """Write log lines to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level.upper())
    LOGGER.propagate = False


def log_failure(message: str, error: BaseException) -> None:
    """An error that is a bug or a broken part: its type and traceback, without its message."""
    LOGGER.error(message, exc_info=(type(error), error, error.__traceback__))


def log(message: str, **fields: object) -> None:
    """A fact of the server's life, at level info."""
    LOGGER.info(message, extra={"fields": fields})


def log_error(message: str, **fields: object) -> None:
    """A fact that an operator has to look at."""
    LOGGER.error(message, extra={"fields": fields})
