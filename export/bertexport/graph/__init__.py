"""What is written: the packed ONNX graph and its nodes."""
