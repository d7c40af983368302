"""When calls are meant to be sent: pure schedules, in seconds from the start of a run."""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]

# Of a product that is a whole number but for floating point.
ROUNDING = 1e-9


class Arrivals(StrEnum):
    """How callers who know nothing of each other arrive, or a clock does."""

    POISSON = "poisson"
    CONSTANT = "constant"


def schedule(arrivals: Arrivals, rate: float, start: float, end: float, rng: np.random.Generator) -> Seconds:
    """Ascending moments in [start, end), `rate` a second on average; constant ones are multiples of 1 ÷ rate.

    Given how many arrivals of a Poisson process an interval holds, each is uniform in it, whatever the others are.
    """
    if arrivals is Arrivals.CONSTANT:
        first, last = (math.ceil(moment * rate - ROUNDING) for moment in (start, end))
        return np.arange(first, last) / rate
    return np.sort(rng.uniform(start, end, rng.poisson(rate * (end - start))))
