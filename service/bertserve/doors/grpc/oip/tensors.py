"""Tensors as the protocol's raw bytes: elements in row-major order. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LENGTH_BYTES = 4


class MalformedTensor(Exception):
    """Bytes that do not hold as many elements as their tensor's shape says."""


def read_strings(raw: bytes, count: int) -> list[bytes]:
    """The elements of a BYTES tensor: of each, four bytes of its length, little-endian, then itself.

    Raises MalformedTensor.
    """
    elements: list[bytes] = []
    place = 0
    for _ in range(count):
        start = place + LENGTH_BYTES
        place = start + int.from_bytes(raw[place:start], "little")
        if start > len(raw) or place > len(raw):
            raise MalformedTensor(
                f"its {len(raw)} bytes end within element {len(elements)} of {count}; "
                f"each is {LENGTH_BYTES} bytes of its length, little-endian, and itself"
            )
        elements.append(raw[start:place])
    if place < len(raw):
        raise MalformedTensor(f"{len(raw) - place} bytes follow its {count} elements")
    return elements


def write_strings(elements: Iterable[bytes]) -> bytes:
    """A BYTES tensor, as `read_strings` reads it."""
    return b"".join(part for element in elements for part in (len(element).to_bytes(LENGTH_BYTES, "little"), element))


def write_floats(array: NDArray[np.floating]) -> bytes:
    """An FP32 tensor: four bytes an element, little-endian."""
    return np.ascontiguousarray(array, dtype="<f4").tobytes()
