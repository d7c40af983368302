"""The heads as the export needs them, one file a head: its nodes in the graph, and its result in PyTorch.

What a head is, `bertserve.heads` says; here stands what needs onnx or torch, under the same name.
"""
