"""The constants of a graph, written as they come, so that no more than one large one is held in memory.

Knows neither nodes nor models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bertserve.bundle import GRAPH_DATA_NAME
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# A protobuf file ends at 2 GiB, and a large one is parsed into memory where external data is mapped.
EXTERNAL_DATA_BYTES = 100_000_000
# Smaller ones stay in the graph: shape inference reads them there.
SMALLEST_EXTERNAL_BYTES = 1024
# Of a memory page, so that each can be mapped.
ALIGNMENT_BYTES = 4096


class Constants:
    """Constants by name. Once they exceed `external_data_bytes` together, the large ones lie in model.onnx.data."""

    def __init__(self, directory: Path, external_data_bytes: int = EXTERNAL_DATA_BYTES) -> None:
        self._path = directory / GRAPH_DATA_NAME
        # Of a graph that was written here before.
        self._path.unlink(missing_ok=True)
        self._external_data_bytes = external_data_bytes
        self._tensors: dict[str, TensorProto] = {}
        self._bytes_held = 0
        self._is_external = False

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    @property
    def tensors(self) -> list[TensorProto]:
        """In the order in which they were added."""
        return list(self._tensors.values())

    def add(self, name: str, array: NDArray[Any] | np.generic) -> None:
        """Raises OSError where it cannot be written."""
        array = np.asarray(array, order="C")
        if self._is_external and array.nbytes >= SMALLEST_EXTERNAL_BYTES:
            self._tensors[name] = self._write(name, array)
            return
        self._tensors[name] = numpy_helper.from_array(array, name)
        self._bytes_held += array.nbytes
        if self._bytes_held > self._external_data_bytes:
            self._move_out()

    def _move_out(self) -> None:
        self._is_external, self._bytes_held = True, 0
        for name, tensor in self._tensors.items():
            if len(tensor.raw_data) >= SMALLEST_EXTERNAL_BYTES:
                self._tensors[name] = self._write(name, numpy_helper.to_array(tensor))

    def _write(self, name: str, array: NDArray[Any]) -> TensorProto:
        """A new proto that says where the values lie; one that held them would go on holding their memory."""
        with self._path.open("ab") as file:
            file.write(bytes(-file.tell() % ALIGNMENT_BYTES))
            place = {"location": GRAPH_DATA_NAME, "offset": str(file.tell()), "length": str(array.nbytes)}
            file.write(array.data)
        return TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
            external_data=[onnx.StringStringEntryProto(key=key, value=value) for key, value in place.items()],
        )
