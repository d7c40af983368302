"""What `bertcall` reads besides its arguments: texts from standard input, and the pairs in them."""

from __future__ import annotations

import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

InputText = str | tuple[str, str]

STANDARD_INPUT = Path("-")
# Of a text, in a message about it.
SHOWN_CHARACTERS = 80


class UsageError(Exception):
    """What was written on the command line, or came on standard input, cannot be used."""


def as_text(word: str) -> str:
    """A word of the command line as UTF-8, whatever the locale made of its bytes; those that are none stay apart."""
    return os.fsencode(word).decode(errors="surrogateescape")


def as_path(text: str) -> Path:
    """The path of a text, in the form in which an ASCII locale finds it, too."""
    return Path(os.fsdecode(text.encode(errors="surrogateescape")))


def split_pair(text: str, separator: str) -> InputText:
    """A text that holds the separator is a pair, each without the blanks around it; an empty one parts nothing."""
    if not separator or separator not in text:
        return text
    first, _, second = text.partition(separator)
    if separator in second:
        shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
        raise UsageError(f"{shown!r} holds {separator!r} twice; a pair has two texts (see --separator)")
    return first.strip(), second.strip()


def expand_standard_input(texts: Sequence[str]) -> list[str]:
    """The texts, with `-` replaced by the lines of standard input. Raises UsageError: it cannot be read, is not
    UTF-8, or holds no text."""
    try:
        expanded = [line for text in texts for line in (_standard_input_lines() if text == "-" else [text])]
        for text in expanded:
            text.encode()
    except UnicodeError as error:
        raise UsageError("a text is not UTF-8") from error
    except OSError as error:
        raise UsageError(f"standard input: {error.strerror}") from error
    if not expanded:
        raise UsageError("standard input holds no text")
    return expanded


def name_of(path: Path) -> str:
    """What a message calls it."""
    return "standard input" if path == STANDARD_INPUT else str(path)


@contextmanager
def open_lines(path: Path) -> Iterator[Iterable[bytes]]:
    """The lines of a file, or of standard input for `-`, read one by one. Raises UsageError: it cannot be opened."""
    if path == STANDARD_INPUT:
        yield _standard_input()
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    with file:
        yield file


def _standard_input() -> BinaryIO:
    if sys.stdin is None:  # started with it closed
        raise UsageError("standard input is closed")
    return sys.stdin.buffer


def _standard_input_lines() -> list[str]:
    # Split at line ends alone: str.splitlines would also cut at characters that a text may hold, such as U+2028.
    lines = _standard_input().read().removeprefix(BOM_UTF8).decode().replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
