"""How a client names a field at fault. The tasks speak of the fields of an ask, such as `inputs[3].text`."""

from __future__ import annotations

import re

from bertserve.errors import InvalidInput
from bertserve.observe.metrics import Metrics


class FieldPaths:
    """What one kind of request calls the fields of an ask."""

    def __init__(self, *rules: tuple[str, str]) -> None:
        """rules: pattern of a path, and what stands in its place; the first that matches counts."""
        self._rules = tuple((re.compile(pattern), name) for pattern, name in rules)

    def name(self, path: str) -> str:
        """Return the client's name of a field; the path itself if no rule matches."""
        for pattern, name in self._rules:
            renamed, matches = pattern.subn(name, path)
            if matches:
                return renamed
        return path


class FieldNames:
    """A block in which every InvalidInput gets the client's name of its field, and is counted as invalid."""

    def __init__(self, paths: FieldPaths, model: str, metrics: Metrics) -> None:
        self._paths, self._model, self._metrics = paths, model, metrics

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidInput):
            self._metrics.rejected.labels(self._model, "invalid").inc()
            raise InvalidInput(self._paths.name(error.violation.field), error.violation.description) from error
