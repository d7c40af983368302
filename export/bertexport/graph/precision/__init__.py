"""How a graph computes: one file a precision."""
