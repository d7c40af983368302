"""How figures are written: never so rounded that they look like a value that they do not have."""

from __future__ import annotations

# More digits than these a float does not have.
MOST_DIGITS = 17


def write_figure(value: float, *others: float, digits: int = 6) -> str:
    """The value in `digits` significant digits, and in more if it would not be seen on which side of others it lies."""
    if value.is_integer() and abs(value) < 1e15:
        return f"{value:.0f}"
    shown = f"{value:.{digits}g}"
    while digits < MOST_DIGITS and any(_is_moved(value, float(shown), other) for other in others):
        digits += 1
        shown = f"{value:.{digits}g}"
    return shown


def write_cosine(value: float | None) -> str:
    """Seven decimals, and more if those would show 1, which only equal vectors have; empty without a value."""
    return "" if value is None else _write_decimals(value, 7)


def write_share(value: float | None) -> str:
    """A percentage: all or nothing only if it is just that; empty without a value."""
    if value is None:
        return ""
    return f"{_write_decimals(100 * value, 2, 0.0, 100.0)}%"


def _write_decimals(value: float, decimals: int, *others: float) -> str:
    others = others or (1.0,)
    shown = f"{value:.{decimals}f}"
    while decimals < MOST_DIGITS and any(_is_moved(value, float(shown), other) for other in others):
        decimals += 1
        shown = f"{value:.{decimals}f}"
    return shown


def _is_moved(value: float, shown: float, other: float) -> bool:
    """Whether rounding carried the value to, from or across the other. NaN lies on no side."""
    return (value < other, value > other) != (shown < other, shown > other)
