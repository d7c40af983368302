"""Weight files: which tensors they hold, and each tensor by itself. Nothing is unpickled but tensors."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from bertserve.engine.items import Float32s

from bertexport.errors import ExportError

# How a file begins that stands for one that Git LFS has not fetched.
POINTER = b"version https://git-lfs.github.com/"


class WeightFile(Protocol):
    """A file of tensors. Whole numbers are left out: they are buffers such as position_ids, which old versions saved
    and every model computes anew."""

    def names(self) -> list[str]:
        """Of the tensors. Raises ExportError where the file cannot be read."""

    def read(self, name: str) -> Float32s:
        """One tensor, widened or narrowed to float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies. name: in the file."""

    file: WeightFile
    name: str

    def read(self) -> Float32s:
        return self.file.read(self.name)


class SafetensorsFile:
    """Opened anew for every tensor: what is mapped counts as memory in use for as long as the file is open."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        from safetensors import SafetensorError

        check_readable(self._path)
        try:
            with self._open() as file:
                return [name for name in file.keys() if "F" in file.get_slice(name).get_dtype()]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ExportError(f"{self._path} is not a whole safetensors file ({reason}); download it again") from error

    def read(self, name: str) -> Float32s:
        with self._open() as file:
            return _to_float32(file.get_tensor(name))

    def _open(self) -> Any:
        from safetensors import safe_open

        # Through torch rather than numpy, which has no bfloat16.
        return safe_open(self._path, framework="pt")


class PickleFile:
    """Mapped where its form allows it, else read whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        import torch

        check_readable(self._path)
        tensors = self._content.items()
        return [name for name, tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()]

    def read(self, name: str) -> Float32s:
        return _to_float32(self._content[name])

    @cached_property
    def _content(self) -> dict[str, Any]:
        import torch

        try:
            content = torch.load(self._path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(self._path))
        except Exception as error:  # torch raises pickle's, zip's and its own classes
            raise ExportError(
                f"{self._path} cannot be read as plain tensors, and nothing else is ever unpickled; "
                "save the checkpoint as safetensors from a program that you trust"
            ) from error
        if not isinstance(content, dict):
            raise ExportError(f"{self._path} holds no state dict")
        return content


def check_readable(path: Path) -> None:
    """Before a library that would say something else of a file that is another user's, or that was never fetched."""
    try:
        with path.open("rb") as file:
            beginning = file.read(len(POINTER))
    except OSError as error:
        raise ExportError(f"{path} cannot be read ({error.strerror})") from error
    refuse_pointer(path, beginning)


def refuse_pointer(path: Path, content: bytes) -> None:
    """Raise ExportError if the content, or its beginning, is a pointer of Git LFS."""
    if content.startswith(POINTER):
        raise ExportError(
            f"{path} is a pointer that Git LFS has not replaced by the file itself; fetch it with 'git lfs pull'"
        )


def _to_float32(tensor: Any) -> Float32s:
    import torch

    return np.asarray(tensor.detach().to(torch.float32).numpy(), order="C")
