"""Standard streams that take every letter, whatever the locale says."""

from __future__ import annotations

import codecs
import io
import sys

# What the command writes beside ASCII.
IN_ASCII = {"≥": ">=", "≤": "<=", "…": "...", "✓": "*", "×": "x"}


def accept_every_letter() -> None:
    """Let standard output and standard error write in ASCII what their encoding lacks: a sign, else an escape."""
    codecs.register_error("bertexport", _write_in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="bertexport")


def _write_in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    written = "".join(
        IN_ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode("ascii") for letter in lacking
    )
    return written, error.end
