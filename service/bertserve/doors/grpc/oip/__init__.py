"""The Open Inference Protocol: tensors in, tensors out, by the same tasks and batches as the typed API.

`signature` says which tensors a bundle takes and gives, `tensors` codes their bytes; `requests` (with `parameters`) and
`responses` convert, `descriptions` and `statistics` tell of models, `service` is the GRPCInferenceService itself.
"""
