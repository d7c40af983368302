"""What a classifier's outputs are called, by the rules of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertexport.errors import ExportError

NAMES_SHOWN = 6
# Where config.json states neither names nor a number.
DEFAULT_COUNT = 2


def name_labels(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The names of `count` outputs. Raises ExportError if config.json states others or another number.

    `num_labels` outranks an `id2label` of another size: `transformers` then numbers the labels.
    """
    names = config.get("id2label")
    stated = _read_count(config, names)
    if stated is not None and stated != count:
        raise ExportError(
            f"config.json: num_labels is {stated} ({DEFAULT_COUNT} where it is missing), the classifier has {count} "
            f"outputs; state that number, or leave it out and name them in id2label, 0 to {count - 1}"
        )
    if stated is not None:
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(names, dict) or set(names) != {str(index) for index in range(count)}:
        found = f"has labels {shorten(sorted(names))}" if isinstance(names, dict) else f"is {names!r}"
        raise ExportError(
            f"config.json: id2label {found}, the classifier {count} outputs; number them 0 to {count - 1}"
        )
    return tuple(str(names[str(index)]) for index in range(count))


def note_labels(config: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    """A note if config.json has names that `transformers`, and so the bundle, does not use."""
    names = config.get("id2label")
    if not labels or _read_count(config, names) is None:
        return ()
    called = f"labels are called {shorten(list(labels))}, as transformers calls them"
    if names:
        return (f"config.json names {len(names)} labels in id2label, but num_labels is {len(labels)}: {called}.",)
    if config.get("label2id"):
        return (f"config.json names labels in label2id alone, which transformers does not read: {called}.",)
    return ()


def shorten(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _read_count(config: Mapping[str, Any], names: object) -> int | None:
    """The number that decides; None if the names of id2label do."""
    value = config.get("num_labels")
    if value is None:
        return None if names else DEFAULT_COUNT
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ExportError(f"config.json: num_labels is {value!r}, a positive whole number is needed")
    return None if names and (not isinstance(names, dict) or len(names) == value) else value
