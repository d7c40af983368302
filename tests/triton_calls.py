"""`triton_calls.py HOST:PORT`: NVIDIA's client and ours in one process, against one server; exits 0 where they agree.

A program of its own: our copy of the protocol and tritonclient's cannot be loaded into one process.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from bertapi.client import BertClient, FillMaskOptions
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

MODEL = "pretraining"
TEXTS = ["calculus is a [MASK] of math", "the [MASK] sat on the [MASK]"]
PAIRS = ["it was developed by newton and leibniz", "the cat"]


def main(target: str) -> None:
    with BertClient(target) as ours, tritonclient.grpc.InferenceServerClient(target) as theirs:
        assert theirs.is_server_live()
        assert theirs.is_server_ready()
        assert theirs.is_model_ready(MODEL)
        describes(theirs)
        infers(ours, theirs)
        asyncio.run(infers_asynchronously(target, theirs))
        refuses(theirs)
        counts(theirs)


def tensor(name: str, texts: list[str], *, rows_only: bool = False) -> InferInput:
    elements = np.array(texts, dtype=object).reshape((-1,) if rows_only else (-1, 1))
    given = InferInput(name, list(elements.shape), "BYTES")
    given.set_data_from_numpy(elements)
    return given


def describes(theirs: tritonclient.grpc.InferenceServerClient) -> None:
    assert theirs.get_server_metadata().name == "bertserve"
    metadata = theirs.get_model_metadata(MODEL, "1", as_json=True)
    config = theirs.get_model_config(MODEL, as_json=True)["config"]
    assert [output["name"] for output in metadata["outputs"]] == [output["name"] for output in config["output"]]
    assert config["input"][0]["data_type"] == "TYPE_STRING"


def infers(ours: BertClient, theirs: tritonclient.grpc.InferenceServerClient) -> None:
    result = theirs.infer(
        MODEL, [tensor("text", TEXTS), tensor("text_pair", PAIRS)], request_id="a", parameters={"top_k": 4}
    )
    assert result.get_response().id == "a"
    pairs = list(zip(TEXTS, PAIRS, strict=True))
    analyses = ours.analyze(pairs, embed=True, fill_mask=FillMaskOptions(top_k=4), next_sentence=True)
    tokens, scores = result.as_numpy("mask_tokens"), result.as_numpy("mask_log_probabilities")
    for row, analysis in enumerate(analyses):
        np.testing.assert_array_equal(result.as_numpy("embedding")[row], analysis.embedding.vectors)
        for place, mask in enumerate(analysis.fill_mask.masks):
            assert [token.decode() for token in tokens[row, place]] == [word.token for word in mask.predictions]
            np.testing.assert_array_equal(
                scores[row, place], np.float32([word.log_probability for word in mask.predictions])
            )
        assert result.as_numpy("next_sentence_probability")[row] == np.float32(analysis.next_sentence.probability)


async def infers_asynchronously(target: str, theirs: tritonclient.grpc.InferenceServerClient) -> None:
    wanted = [InferRequestedOutput("embedding")]
    async with tritonclient.grpc.aio.InferenceServerClient(target) as client:
        results = await asyncio.gather(
            *(client.infer(MODEL, [tensor("text", [text], rows_only=True)], outputs=wanted) for text in TEXTS)
        )
    together = theirs.infer(MODEL, [tensor("text", TEXTS)], outputs=wanted).as_numpy("embedding")
    np.testing.assert_array_equal(np.concatenate([result.as_numpy("embedding") for result in results]), together)


def refuses(theirs: tritonclient.grpc.InferenceServerClient) -> None:
    assert status_of(theirs, MODEL, "") == "StatusCode.INVALID_ARGUMENT"
    assert status_of(theirs, "nothing", "a") == "StatusCode.NOT_FOUND"


def status_of(theirs: tritonclient.grpc.InferenceServerClient, model: str, text: str) -> str:
    try:
        theirs.infer(model, [tensor("text", [text])])
    except InferenceServerException as error:
        return error.status()
    return "OK"


def counts(theirs: tritonclient.grpc.InferenceServerClient) -> None:
    (model,) = theirs.get_inference_statistics(MODEL).model_stats
    assert model.inference_count == 2 + 2 + 2
    assert (model.inference_stats.success.count, model.inference_stats.fail.count) == (4, 1)


if __name__ == "__main__":
    main(sys.argv[1])
