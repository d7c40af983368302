"""The precisions that a bundle can have, by name."""

from __future__ import annotations

from bertexport.graph.precision.contract import Precision
from bertexport.graph.precision.fp32 import Fp32
from bertexport.graph.precision.int8 import Int8
from bertexport.graph.precision.names import FP32, INT8

PRECISIONS: dict[str, Precision] = {FP32: Fp32(), INT8: Int8()}
