"""Labelled files: a header line, then a row per text or text pair, in TSV (unquoted) or CSV (quoted where needed)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class LabelledFileError(Exception):
    """A file that cannot be learned from. The message says where, and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names in the header. text: None for the first column; pair: None for single texts."""

    text: str | None = None
    pair: str | None = None
    label: str = "label"


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    pair: str | None
    label: str


def read_examples(path: Path, columns: Columns) -> list[Example]:
    """Every row. Raises LabelledFileError for a column that is not there, or a row without a text or a label."""
    with path.open(encoding="utf-8", newline="") as file:
        tab_separated = path.suffix == ".tsv"
        rows = csv.DictReader(
            file,
            delimiter="\t" if tab_separated else ",",
            quoting=csv.QUOTE_NONE if tab_separated else csv.QUOTE_MINIMAL,
        )
        header = list(rows.fieldnames or [])
        text_column = columns.text or (header[0] if header else "")
        for column in (text_column, columns.pair, columns.label):
            if column is not None and column not in header:
                raise LabelledFileError(
                    f"{path}: no column {column!r}; its header has {', '.join(header) or 'nothing'}"
                )
        examples = [
            Example(row[text_column], None if columns.pair is None else row[columns.pair], row[columns.label])
            for row in rows
        ]
    for number, example in enumerate(examples, start=1):
        if not example.text or example.pair == "" or not example.label:
            raise LabelledFileError(f"{path}: row {number} after the header lacks a text or its label")
    if not examples:
        raise LabelledFileError(f"{path}: no row after the header")
    return examples


def draw_examples(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """At most `limit` of them, in random order."""
    order = np.random.default_rng(seed).permutation(len(examples))
    return [examples[index] for index in order[:limit]]


def name_labels(examples: Sequence[Example], names: Sequence[str] | None) -> dict[str, str]:
    """From each label of the file, sorted, to the name that the model gives it: its own unless `names` are given."""
    labels = sorted({example.label for example in examples})
    if len(labels) < 2:
        raise LabelledFileError(f"only one label, {labels[0]!r}: there is nothing to tell apart")
    if names is not None and len(names) != len(labels):
        raise LabelledFileError(f"{len(names)} names for {len(labels)} labels ({', '.join(labels)})")
    return dict(zip(labels, names or labels, strict=True))


def draw_batches(lengths: Sequence[int], batch_size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Indices of every example once. Fifty batches at a time are sorted by length, so that little is padding."""
    order = rng.permutation(len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), 50 * batch_size):
        chunk = sorted(order[start : start + 50 * batch_size].tolist(), key=lambda index: lengths[index])
        batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
    for index in rng.permutation(len(batches)):
        yield batches[index]
