"""golden.npz: a few inputs with PyTorch's outputs and the bundle's own, as proof that this machine computes the same.

`bertexport` writes it; the server checks it before it says ready. Holds arrays of plain numbers only.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertserve.bundle import BundleError
from bertserve.engine.contract import Engine
from bertserve.engine.items import Float32s, Item, ItemOutputs, Wanted
from bertserve.heads.comparison import relative_difference
from bertserve.heads.registry import HEADS

Outputs = Mapping[str, Float32s]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """An input, PyTorch's outputs and the bundle's own at export, named as by `comparable_outputs`."""

    item: Item
    reference: Outputs
    own: Outputs


def check_golden(engine: Engine) -> None:
    """Read the bundle's golden cases, and prove them. Raises BundleError."""
    prove_golden(engine, read_golden(engine.bundle.golden_path))


def prove_golden(engine: Engine, cases: Sequence[GoldenCase]) -> None:
    """Run the golden inputs, all in one batch, and compare with the bundle's own outputs.

    Raises BundleError: the graph does not run, or an output differs by more than the manifest's golden_tolerance,
    measured by `relative_difference`.
    """
    manifest, path = engine.bundle.manifest, engine.bundle.golden_path
    try:
        results = engine.run_items([case.item for case in cases])
    except Exception as error:  # an engine may raise any class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(f"{path}: the graph does not run its golden inputs ({reason}); export it again") from error
    for case, result in zip(cases, results, strict=True):
        outputs = comparable_outputs(result)
        for name, own in case.own.items():
            difference = relative_difference(outputs[name], own)
            if not difference <= manifest.golden_tolerance:
                raise BundleError(
                    f"{path}: on this machine {name} differs from the exported outputs by {difference:.1e}, allowed "
                    f"{manifest.golden_tolerance:.1e}; use an onnxruntime like the exporter's, or export here"
                )


def comparable_outputs(outputs: ItemOutputs) -> dict[str, Float32s]:
    """An item's outputs by name, without the ids of the likeliest tokens: near ties may fall either way."""
    return {name: values for head in HEADS.values() for name, values in head.comparable(outputs).items()}


def write_golden(path: Path, cases: Sequence[GoldenCase]) -> None:
    """Write cases; the same cases always give the same bytes."""
    arrays: dict[str, Any] = {}
    for index, case in enumerate(cases):
        parts = {"item": _item_arrays(case.item), "reference": case.reference, "own": case.own}
        arrays |= {f"{index}/{part}/{name}": values for part, named in parts.items() for name, values in named.items()}
    np.savez(path, **arrays)


def read_golden(path: Path) -> list[GoldenCase]:
    """The cases in the order in which they were written. Raises BundleError."""
    try:
        # Opened here, for numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        count = len({name.split("/")[0] for name in arrays})
        cases = [_read_case(arrays, index) for index in range(count)]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: not golden outputs ({error}); export the bundle again") from error
    if not cases:
        raise BundleError(f"{path}: holds no golden outputs; export the bundle again")
    return cases


def _item_arrays(item: Item) -> dict[str, NDArray[Any]]:
    wanted = {field.name: getattr(item.wanted, field.name) for field in fields(Wanted)}
    return {
        "input_ids": item.input_ids,
        "token_type_ids": item.token_type_ids,
        **{
            name: np.array(value, dtype=np.int64 if isinstance(value, tuple) else None)
            for name, value in wanted.items()
        },
    }


def _read_case(arrays: Mapping[str, NDArray[Any]], index: int) -> GoldenCase:
    def part(name: str) -> dict[str, NDArray[Any]]:
        start = f"{index}/{name}/"
        return {key.removeprefix(start): values for key, values in arrays.items() if key.startswith(start)}

    item = part("item")
    # A file from before a head was added says nothing of it, and does not ask for it.
    asked = {field.name: _read_field(item[field.name]) for field in fields(Wanted) if field.name in item}
    return GoldenCase(
        item=Item(input_ids=item["input_ids"], token_type_ids=item["token_type_ids"], wanted=Wanted(**asked)),
        reference=part("reference"),
        own=part("own"),
    )


def _read_field(values: NDArray[Any]) -> Any:
    """A number or truth value, or a tuple of numbers."""
    return tuple(values.tolist()) if values.ndim else values.item()
