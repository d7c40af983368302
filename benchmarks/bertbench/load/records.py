"""What became of every call: columns of equal length, one row a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """intended, sent, ended: seconds from the start of the run. status: numbers of gRPC's codes. kind: of the request.

    texts: of the request. tokens: that the model ran for the answer; 0 where there is none.
    """

    intended: NDArray[np.float64]
    sent: NDArray[np.float64]
    ended: NDArray[np.float64]
    status: NDArray[np.int64]
    kind: NDArray[np.str_]
    texts: NDArray[np.int64]
    tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.intended)

    @property
    def latency(self) -> NDArray[np.float64]:
        """Seconds from when a call was due to its end: time that it waited to be sent counts."""
        return self.ended - self.intended

    def where(self, chosen: NDArray[np.bool_]) -> Records:
        """The rows chosen."""
        return Records(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def join(parts: Sequence[Records]) -> Records:
    """All rows of all parts, in the order in which they were due."""
    columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Records)}
    order = np.argsort(columns["intended"], kind="stable")
    return Records(**{name: column[order] for name, column in columns.items()})
