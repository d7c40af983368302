"""The engine: packs items into one padding-free batch, runs the graph, and hands each item its rows back.

The only room that knows onnxruntime. `items` is its language, `packing` the pure layout, `session` the graph,
`mappings` what keeps its weights from changing with their file, `golden` the proof that this machine computes what the
exporting one did, `lanes` the threads that run batches.
"""
