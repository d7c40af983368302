"""ModelInfer requests and answers in the words of tests: lists in, arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from bertapi.oip import inference_pb2 as oip
from bertserve.doors.grpc.oip.tensors import read_strings, write_strings

Request = oip.ModelInferRequest


def tensor(name: str, count: int, *more: int) -> oip.ModelInferRequest.InferInputTensor:
    return Request.InferInputTensor(name=name, datatype="BYTES", shape=[count, *more])


def infer_request(
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    outputs: Iterable[str] = (),
    model: str = "pretraining",
    **parameters: str | int | bool,
) -> oip.ModelInferRequest:
    """As tritonclient sends it: raw contents, shape [n, 1]."""
    given = {"text": texts} if pairs is None else {"text": texts, "text_pair": pairs}
    return Request(
        model_name=model,
        inputs=[tensor(name, len(elements), 1) for name, elements in given.items()],
        outputs=[Request.InferRequestedOutputTensor(name=name) for name in outputs],
        raw_input_contents=[write_strings(element.encode() for element in elements) for elements in given.values()],
        parameters={name: _parameter(value) for name, value in parameters.items()},
    )


def arrays(response: oip.ModelInferResponse) -> dict[str, np.ndarray]:
    """Name → array of float32, or of bytes as objects."""
    found = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        shape = tuple(output.shape)
        if output.datatype == "BYTES":
            found[output.name] = np.array(read_strings(raw, int(np.prod(shape))), dtype=object).reshape(shape)
        else:
            assert output.datatype == "FP32"
            found[output.name] = np.frombuffer(raw, dtype="<f4").reshape(shape)
    return found


def _parameter(value: str | int | bool) -> oip.InferParameter:
    if isinstance(value, bool):
        return oip.InferParameter(bool_param=value)
    if isinstance(value, int):
        return oip.InferParameter(int64_param=value)
    return oip.InferParameter(string_param=value)
