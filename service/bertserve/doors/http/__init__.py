"""The HTTP door for operators: metrics and probes."""
