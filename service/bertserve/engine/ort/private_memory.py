"""Weights that ONNX Runtime maps from a file, put into memory that is this process's alone.

A mapped page shows what is written over its file, and is gone once the file is cut short: copied on write or not, the
next access ends the process by SIGBUS. ONNX Runtime maps all external data and cannot be told otherwise; handing it a
buffer costs the memory of all weights twice, for those that it packs anew are let go only where they were mapped.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from ctypes import c_int, c_long, c_size_t, c_void_p
from pathlib import Path

MAPPINGS = Path("/proc/self/maps")

# Of Linux's mremap; mmap's own are in Python's module.
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
FAILED = c_void_p(-1).value


def detach(path: Path) -> None:
    """Put a copy in the place of every mapping of a file, at its address; whoever reads there notices nothing.

    Nobody may write there meanwhile. Does nothing where the system has no /proc. Raises OSError for want of memory.
    """
    for start, size in list(_mappings(path)):
        _replace(start, size)


def _mappings(path: Path) -> Iterator[tuple[int, int]]:
    """Address and size of each mapping of a file in this process."""
    name = os.fsencode(os.path.realpath(path)).replace(b"\n", rb"\012")
    if not MAPPINGS.exists():
        return
    for line in MAPPINGS.read_bytes().splitlines():
        # start-end permissions offset device inode name
        if line.split(None, 5)[5:] == [name]:
            start, end = (int(address, 16) for address in line.split(None, 1)[0].split(b"-"))
            yield start, end - start


def _replace(start: int, size: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    allocate, move = library.mmap, library.mremap
    allocate.argtypes = [c_void_p, c_size_t, c_int, c_int, c_int, c_long]
    move.argtypes = [c_void_p, c_size_t, c_size_t, c_int, c_void_p]
    allocate.restype = move.restype = c_void_p
    copy = allocate(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    _check(copy)
    ctypes.memmove(copy, start, size)
    # In one step: another thread that reads there finds the old page or the new one.
    _check(move(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, start))


def _check(address: int | None) -> None:
    if address == FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
