"""Calls every method of a server of the four test bundles and of the demo model, and prints what came as JSON.

    every_call.py HOST:PORT

Whichever version of bertapi is on the path does it, so this file uses nothing that 0.1.0 lacks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import Any

import bertapi
import grpc
import numpy as np
from bertapi.client import AsyncBertClient, BertClient, BertError, EmbedOptions, InvalidInputError, UnknownModelError
from bertapi.oip import inference_pb2, inference_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TEXTS = ["the cat sat .", ("it [MASK] here .", "we [MASK] .")]


def main() -> None:
    (target,) = sys.argv[1:]
    with BertClient(target, model="pretraining") as client:
        client.wait_ready()
        answers = {**unary_answers(client), **stream_answers(client), **refusals(client)}
    answers["asynchronous"] = asyncio.run(asynchronous_answer(target))
    with grpc.insecure_channel(target) as channel:
        answers |= {**health_answers(channel), **open_inference_answers(channel)}
    json.dump({"bertapi": bertapi.__file__, "answers": plain(answers)}, sys.stdout)


def unary_answers(client: BertClient) -> dict[str, Any]:
    """Name of the method → what the client made of its answer."""
    return {
        "Embed": [client.embed(TEXTS, pooling=pooling) for pooling in ("mean", "cls", "max", "pooler", "none")],
        "FillMask": client.fill_mask(TEXTS[1], top_k=3, targets=["cat"]),
        "ScoreNextSentence": client.score_next_sentence("the cat sat .", ["it sat .", "we had a war ."]),
        "Classify": client.classify(TEXTS, model="classifier"),
        "TagTokens": client.tag_tokens("the cat sat .", aggregation="simple", model="tagger"),
        "Analyze": client.analyze(
            TEXTS[1], embed=EmbedOptions(layers=[0, 1], vector_type="float16"), fill_mask=True, next_sentence=True
        ),
        "Tokenize": client.tokenize(TEXTS),
        "GetModel": [client.get_model(model=name) for name in ("pretraining", "classifier", "plain", "tagger", "demo")],
        "ListModels": client.list_models(),
        "demo": client.fill_mask("The [MASK] sat on the mat", model="demo"),
    }


def stream_answers(client: BertClient) -> dict[str, Any]:
    """A bad text in the middle fails alone."""
    texts = ["a cat .", "cat " * 3000, "a dog ."]
    answers = client.stream_analyze(texts, embed=True, model="plain")
    return {"StreamAnalyze": sorted(answers, key=lambda answer: answer.index)}


def refusals(client: BertClient) -> dict[str, Any]:
    """What a caller's code may lean on: the error's class, and the field that it names."""
    found: dict[str, Any] = {}
    try:
        client.embed(["a cat .", "cat " * 3000])
    except InvalidInputError as error:
        found["refused text"] = [violation.field for violation in error.violations]
    try:
        client.embed("a cat .", model="nobody")
    except UnknownModelError as error:
        found["unknown model"] = type(error).__name__
    return found


async def asynchronous_answer(target: str) -> Any:
    async with AsyncBertClient(target, model="plain") as client:
        return await client.embed("a cat .")


def health_answers(channel: grpc.Channel) -> dict[str, Any]:
    """The status of the server and of its service, asked and watched."""
    stub = health_pb2_grpc.HealthStub(channel)
    requests = [health_pb2.HealthCheckRequest(service=name) for name in ("", "bertapi.v1.BertService")]
    watch = stub.Watch(requests[0], timeout=30)
    watched = next(watch).status
    watch.cancel()
    return {"health": [stub.Check(request, timeout=30).status for request in requests], "watched health": watched}


def open_inference_answers(channel: grpc.Channel) -> dict[str, Any]:
    """What a client of Triton's asks first, and one inference."""
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    text = inference_pb2.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1, 1])
    text.contents.bytes_contents.append(b"a cat .")
    embedding = inference_pb2.ModelInferRequest.InferRequestedOutputTensor(name="embedding")
    infer = inference_pb2.ModelInferRequest(model_name="plain", inputs=[text], outputs=[embedding])
    ready = stub.ModelReady(inference_pb2.ModelReadyRequest(name="plain"), timeout=30)
    described = stub.ModelMetadata(inference_pb2.ModelMetadataRequest(name="plain"), timeout=30)
    inferred = stub.ModelInfer(infer, timeout=30)
    vector = np.frombuffer(inferred.raw_output_contents[0], dtype="<f4")
    return {"oip": [ready.ready, [tensor.name for tensor in described.inputs], vector]}


def plain(value: Any) -> Any:
    """The value in the forms of JSON. Times are left out, because they differ from call to call."""
    if isinstance(value, BertError):
        return [type(value).__name__, [violation.field for violation in getattr(value, "violations", ())]]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name != "timings"]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
