"""File descriptors: how many the process may have, and a line in the log while none is free.

Every connection takes one. gRPC waits without a word until it can accept again.
"""

from __future__ import annotations

import errno
import os
import resource
import time

from bertserve.observe.logs import log, log_warning
from bertserve.process.streams import STDERR

# For all that is no connection of the gRPC port: libraries, files, event loops, and the metrics port.
OTHER_DESCRIPTORS = 256

LOOK_SECONDS = 5.0
REPEAT_SECONDS = 60.0


class DescriptorWatch:
    """Says when descriptors are used up, once a minute at most, and when some are free after that. For one thread."""

    def __init__(self) -> None:
        self._look_at = 0.0
        self._say_at = 0.0
        self._were_used_up = False

    def look_now_and_then(self) -> None:
        """Costs nothing most of the time."""
        if time.monotonic() >= self._look_at:
            self.look()

    def look(self) -> None:
        now = time.monotonic()
        self._look_at = now + LOOK_SECONDS
        if _is_one_free():
            if self._were_used_up:
                log("file descriptors are free again")
            self._were_used_up = False
        elif now >= self._say_at:
            self._say_at = now + REPEAT_SECONDS
            self._were_used_up = True
            log_warning(
                "no file descriptor is free; new connections wait, changed files are not read. "
                "Raise `ulimit -n` or lower --max-connections",
                limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )


def are_used_up(error: BaseException | None) -> bool:
    """Whether an error says that no descriptor is free, in the process or the system."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def allow_connections(connections: int) -> None:
    """Raise the soft limit as far as that many connections need, or say that the hard limit is too low."""
    needed = connections + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < needed:
        log_warning(
            "too few file descriptors for --max-connections; raise `ulimit -Hn` or lower it",
            limit=limit,
            needed=needed,
            max_connections=connections,
        )


def _is_one_free() -> bool:
    try:
        os.close(os.dup(STDERR))
    except OSError as error:
        if not are_used_up(error):
            raise
        return False
    return True
