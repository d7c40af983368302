"""What to send to peers that speak the Open Inference Protocol: texts as an input of bytes, one vector back."""

from __future__ import annotations

from collections.abc import Sequence

from bertapi.oip import inference_pb2 as pb

from bertbench.load.requests import PreparedRequest

SERVED_NAME = "peer"


def infer_requests(texts: Sequence[str], tokens: Sequence[int]) -> tuple[PreparedRequest, ...]:
    """One request for each text. Answers do not tell of tokens, so those of each text are given."""
    return tuple(
        PreparedRequest(
            task="embed",
            kind="embed",
            path="/inference.GRPCInferenceService/ModelInfer",
            message=_infer(text).SerializeToString(),
            texts=1,
            tokens=count,
        )
        for text, count in zip(texts, tokens, strict=True)
    )


def _infer(text: str) -> pb.ModelInferRequest:
    contents = pb.InferTensorContents(bytes_contents=[text.encode()])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1, 1], contents=contents)
    return pb.ModelInferRequest(model_name=SERVED_NAME, inputs=[tensor])
