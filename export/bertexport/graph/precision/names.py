"""The names of the precisions. The command line shows them, and must not load onnx, which the registry needs."""

from __future__ import annotations

FP32 = "fp32"
INT8 = "int8"
PRECISION_NAMES = (FP32, INT8)
