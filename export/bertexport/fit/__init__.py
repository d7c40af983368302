"""The plan for int8: calibration, the arithmetic of quantization, and which parts stay out of it."""
