"""Progress bars on stderr, so that stdout holds nothing but results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """Shows each step while it runs, and a line once it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Enter a step; the value advances it by one of `total`."""
        began = time.perf_counter()
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        # Redrawing takes time from what is measured: rarely, then.
        with Bars(
            *columns,
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            refresh_per_second=1,
            disable=not self._console.is_terminal,
        ) as bars:
            task = bars.add_task(title, total=total)
            yield lambda: bars.advance(task)
        self._console.print(f"✓ {title} ({time.perf_counter() - began:.1f} s)", highlight=False)
