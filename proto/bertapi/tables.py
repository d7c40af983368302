"""Plain-text tables for a terminal: aligned columns, bars, text made safe to show. Knows nothing of the API."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

BAR_CELLS = 24
EIGHTHS = " ▏▎▍▌▋▊▉"
COLUMN_GAP = "  "

Alignment = Literal["<", ">"]


def render_table(alignments: str, rows: Sequence[Sequence[str]], titles: Sequence[str] = ()) -> str:
    """Lines of columns as wide as their widest cell. alignments: one `<` or `>` per column."""
    lines = [list(titles)] if titles else []
    lines += [[printable(cell) for cell in row] for row in rows]
    widths = [max((_width(line[column]) for line in lines), default=0) for column in range(len(alignments))]
    return "\n".join(_render_line(alignments, widths, line) for line in lines)


def bar(share: float) -> str:
    """A share of one as a bar of at most BAR_CELLS characters, to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR_CELLS * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "")


def percent(share: float) -> str:
    """A share of one; a tiny one as a power of ten, so that nothing possible is shown as impossible."""
    return f"{share:.1e}" if 0 < share < 5e-5 else f"{share:.2%}"


def shorten(text: str, width: int) -> str:
    """The text's start, with an ellipsis where that is not all of it."""
    return text if len(text) <= width else text[: width - 1] + "…"


def printable(text: str) -> str:
    """The text on one line, and without what a terminal would obey."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _render_line(alignments: str, widths: Sequence[int], cells: Sequence[str]) -> str:
    padded = (
        cell + " " * (width - _width(cell)) if alignment == "<" else " " * (width - _width(cell)) + cell
        for alignment, width, cell in zip(alignments, widths, cells, strict=True)
    )
    return COLUMN_GAP.join(padded).rstrip()


def _width(text: str) -> int:
    """Terminal cells: East Asian wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
