"""Plain-text tables."""

import pytest
from bertapi.tables import bar, percent, printable, render_table, shorten

BARS = {
    "nothing": (0.0, ""),
    "a sliver": (1 / 192, "▏"),
    "half": (0.5, "█" * 12),
    "all": (1.0, "█" * 24),
    "more than all": (1.5, "█" * 24),
    "an eighth more": (0.5 + 1 / 192, "█" * 12 + "▏"),
}


def test_columns_are_aligned():
    """Every column is as wide as its widest cell, titles included; no line ends in blanks."""
    table = render_table("><", [("1", "a"), ("10", "bb")], ("rank", "w"))
    assert table.split("\n") == ["rank  w", "   1  a", "  10  bb"]


def test_wide_characters_take_two_cells():
    """East Asian characters and combining marks do not shift the columns."""
    table = render_table("<<", [("日本", "x"), ("e\u0301e", "x"), ("abcd", "x")])
    assert table.split("\n") == ["日本  x", "e\u0301e    x", "abcd  x"]


@pytest.mark.parametrize(("share", "expected"), BARS.values(), ids=BARS)
def test_bar(share, expected):
    """A bar shows a share to an eighth of a character."""
    assert bar(share) == expected


def test_a_terminal_obeys_no_text():
    """Escape sequences and line breaks in a text do not reach the terminal."""
    assert printable("a\x1b[2J\nb\u202e") == "a�[2J�b�"


def test_shorten():
    """A long text ends in an ellipsis; one that fits is left alone."""
    assert (shorten("abcd", 4), shorten("abcde", 4)) == ("abcd", "abc…")


def test_percent():
    """What is possible is never shown as zero."""
    assert [percent(share) for share in (0.5, 0.00005, 0.0000123, 0.0)] == ["50.00%", "0.01%", "1.2e-05", "0.00%"]
