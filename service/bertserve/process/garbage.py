"""When Python looks for garbage that refers to itself."""

from __future__ import annotations

import gc

# New objects after which the garbage collector looks at the young ones. Those of a call are gone without it, so that
# Python's own 700 mostly finds calls under way, again and again.
COLLECT_AFTER_OBJECTS = 5_000


def spare_loaded() -> None:
    """Keep the garbage collector away from what was loaded and stays: that took a tenth of the event loop's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, *gc.get_threshold()[1:])
