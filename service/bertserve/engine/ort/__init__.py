"""The engine on ONNX Runtime: the session, its weights in private memory, and the memory of its runs."""
