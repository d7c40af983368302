"""Files that may change under a running server: read when somebody asks, used only where they hold what they should."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from bertserve.observe.logs import log, log_warning
from bertserve.observe.metrics import Metrics
from bertserve.process.descriptors import are_used_up

Value = TypeVar("Value")

# Certificates and tokens are small; what is larger is the wrong file, or one that never ends.
MAX_FILE_BYTES = 1024 * 1024


class FileError(Exception):
    """A file cannot be read, or does not hold what it should. The message names the file, and quotes nothing of it."""


class ReloadedFiles(Generic[Value]):
    """The value that some files hold together, as of the last time when they held one. Safe to ask from any thread."""

    def __init__(
        self, name: str, paths: Sequence[Path], parse: Callable[[Sequence[bytes]], Value], metrics: Metrics
    ) -> None:
        """name: in the log and in `bertserve_reloads_total`. parse: from the files' bytes, in the order of `paths`.

        Raises FileError where the files are missing or `parse` refuses them.
        """
        self._name = name
        self._paths = tuple(paths)
        self._parse = parse
        self._metrics = metrics
        self._lock = threading.Lock()
        try:
            self._seen: Sequence[bytes] | str = _read(self._paths)
            self._value = parse(self._seen)
        except OSError as error:
            raise FileError(f"{paths[0]}: {error.strerror}") from error
        metrics.add_reloaded(name)

    def current(self) -> Value:
        """Of the files as they are now; where they cannot be used, as they were before.

        Contents are compared rather than times: a file swapped twice within a tick of the clock is still noticed.
        """
        with self._lock:
            try:
                self._look()
            except OSError as error:
                if not are_used_up(error):
                    raise
                # Nothing is known of the files until a descriptor is free; the log says that none is.
            return self._value

    def _look(self) -> None:
        try:
            seen: Sequence[bytes] | str = _read(self._paths)
        except FileError as error:
            seen = str(error)
        if seen != self._seen:
            self._reload(seen)
            self._seen = seen

    def _reload(self, seen: Sequence[bytes] | str) -> None:
        try:
            if isinstance(seen, str):
                raise FileError(seen)
            self._value = self._parse(seen)
        except FileError as error:
            self._metrics.reloads.labels(self._name, "refused").inc()
            self._metrics.stale_files.labels(self._name).set(1)
            log_warning("files changed and cannot be used; the old ones stay in force", what=self._name, why=str(error))
        else:
            self._metrics.reloads.labels(self._name, "used").inc()
            self._metrics.stale_files.labels(self._name).set(0)
            log("files reloaded", what=self._name)


def _read(paths: Sequence[Path]) -> tuple[bytes, ...]:
    return tuple(_read_one(path) for path in paths)


def _read_one(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise FileError(f"{path}: no such file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        if are_used_up(error):
            raise
        raise FileError(f"{path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise FileError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    return content
