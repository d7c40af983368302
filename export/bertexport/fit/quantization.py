"""Int8 as arithmetic on arrays: how weights become whole numbers, and how inputs are prepared for them.

Activations are quantized in the graph, one scale a token, so that a text's result never depends on its neighbours; see
`int8_nodes`. Weights are quantized here, one scale an output, since every output is a product of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from bertserve.engine.items import Float32s
from numpy.typing import NDArray

WEIGHT_LIMIT = 127
SMALLEST_OUTPUT = WEIGHT_LIMIT * float(np.finfo(np.float32).tiny)
# Codes of activations are bytes, and the zero point is the code that stands for 0.
HIGHEST_CODE = 255
SYMMETRIC_ZERO = 128
# For inputs that hardly go below zero: sixteen steps for what does, the others for what is above.
SHIFTED_ZERO = 16
# How much of the inputs' range moves into the weights (Xiao et al. 2022, arXiv:2211.10438, who write α). On MiniLM 0.65
# was the best of 0.3, 0.5, 0.65 and 0.8.
SMOOTHING_STRENGTH = 0.65


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Plan:
    """How a graph is quantized. Parts are named as `graph` names them: `layer_3.qkv`, `word_table`, `mask_logits`.

    smoothing: linear layer → float32 [in], see `smoothing_scales`. kept: parts that are not in int8: linear layers stay
    in fp32, the word table is held in fp16, as the small tables of positions and segments always are.
    """

    smoothing: Mapping[str, Float32s] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """values: int8, of the weight's shape [out, in]; scales: float32 [out]. The weight is about values · scales."""

    values: NDArray[np.int8]
    scales: Float32s

    def restored(self) -> Float32s:
        """The weight that the values stand for."""
        return np.asarray(self.values * self.scales[:, None], dtype=np.float32)


def quantize_weight(weight: Float32s) -> QuantizedWeight:
    """Round a weight [out, in] to whole numbers from -127 to 127, symmetric, with a scale for every output.

    -128 is left out, so that a weight and its negative stay each other's.
    """
    largest = np.abs(weight).max(axis=1)
    # An output of zeros alone has no scale of its own, nor has one so near zero that its scale would not be exact: any
    # will do, and all of its codes are 0.
    scales = (np.where(largest > SMALLEST_OUTPUT, largest, 1) / WEIGHT_LIMIT).astype(np.float32)
    values = np.rint(weight / scales[:, None])
    return QuantizedWeight(np.clip(values, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8), scales)


def round_rows(rows: Float32s, lowest: float | None = None) -> Float32s:
    """Rows [rows, in] as their int8 codes stand for them, by the arithmetic that `int8_nodes` writes into the graph.

    lowest: see `find_zero_point`.
    """
    zero_point, least_step = find_zero_point(lowest)
    largest = np.abs(rows) if lowest is None else rows
    steps = np.maximum(largest.max(axis=1, keepdims=True) / (HIGHEST_CODE - zero_point), least_step)
    codes = np.rint(rows / np.where(steps > 0, steps, 1)) + zero_point
    return np.asarray((np.clip(codes, 0, HIGHEST_CODE) - zero_point) * steps, dtype=np.float32)


def find_zero_point(lowest: float | None) -> tuple[int, float]:
    """The zero point for rows, and the least step between two codes. lowest: what no value goes below; None: unknown.

    Where it is known, few codes are spent below zero: a GELU never gives less than -0.17, and half of the codes would
    stand for nothing. Steps are then at least so wide that those few reach the lowest value.
    """
    if lowest is None:
        return SYMMETRIC_ZERO, 0.0
    return (SHIFTED_ZERO, -lowest / SHIFTED_ZERO) if lowest < 0 else (0, 0.0)


def smoothing_scales(largest_inputs: Float32s, weight: Float32s) -> Float32s:
    """What to divide an input's features by, and to multiply the weight's by, so that no feature drowns the others.

    largest_inputs: [in], the largest absolute value of each feature on calibration text; weight: [out, in]. Returns
    float32 [in] of mean 1: max|x|^α ÷ max|w|^(1 − α), after Xiao et al. 2022 (arXiv:2211.10438), equation 4.
    """
    inputs = np.maximum(largest_inputs, np.finfo(np.float32).tiny)
    weights = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny)
    scales = inputs**SMOOTHING_STRENGTH / weights ** (1 - SMOOTHING_STRENGTH)
    # A feature that is always zero, or that nothing reads, has no say in the mean and gets no scale out of bounds.
    used = (largest_inputs > 0) & (np.abs(weight).max(axis=0) > 0)
    if not used.any():
        return np.ones_like(scales, dtype=np.float32)
    return np.where(used, scales / scales[used].mean(), 1).astype(np.float32)
