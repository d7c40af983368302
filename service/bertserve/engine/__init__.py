"""The engine: packs items into one padding-free batch, runs the graph, and hands each item its rows back.

`items` is its language, `packing` the pure layout, `ort` the graph on ONNX Runtime, `golden` the proof that this
machine computes what the exporting one did, `lanes` the threads that run batches.
"""
