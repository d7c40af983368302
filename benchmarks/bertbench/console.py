"""Where figures are shown."""

from __future__ import annotations

import sys

from rich.console import Console

# Of a file or a pipe, which has no width: enough for every table, so that none is cut or folded there.
FILE_WIDTH = 140


def figures_console() -> Console:
    """Stdout."""
    return Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
