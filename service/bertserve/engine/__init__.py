"""The engine: packs items into one padding-free batch, runs the graph, and hands each item its rows back.

`contract` is what every engine offers, `items` its language, `packing` the pure layout, `golden` the proof that this
machine computes what the exporting one did, `lanes` the threads that run batches. `ort` is the engine on ONNX Runtime,
`opening` the table that names it.
"""
