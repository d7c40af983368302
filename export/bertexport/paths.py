"""Paths that are no UTF-8: how they are shown, and how libraries that take only UTF-8 reach them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertexport.errors import ExportError


def show(text: object) -> str:
    """The text without undecoded bytes: they become the letters that they are in UTF-8, else escapes such as \\xe8."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@contextmanager
def decodable(directory: Path) -> Iterator[Path]:
    """The directory under a path that is UTF-8: its own, else a symbolic link's for as long as the block runs.

    Tokenizers, safetensors and ONNX refuse other paths. An ExportError of the block names the directory itself.
    """
    if show(directory) == str(directory) or not directory.is_dir():
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="bertexport.") as folder:
        link = Path(folder) / "link"
        link.symlink_to(directory.absolute(), target_is_directory=True)
        try:
            yield link
        except ExportError as error:
            raise ExportError(str(error).replace(str(link), str(directory))) from error
