"""Tensors of the Open Inference Protocol: their bytes, whole and damaged, and requests made of anything."""

from __future__ import annotations

import numpy as np
import pytest
from bertapi.oip import inference_pb2 as oip
from bertserve.bundle import read_bundle
from bertserve.doors.grpc.oip.requests import read_inference
from bertserve.doors.grpc.oip.responses import write_inference
from bertserve.doors.grpc.oip.tensors import MalformedTensor, read_strings, write_floats, write_strings
from bertserve.doors.grpc.sizes import TensorSizes
from bertserve.engine.opening import open_engine
from bertserve.errors import InvalidInput
from bertserve.models import ServedModel
from bertserve.tasks.analysis import Answer
from bertserve.tasks.answers import Timings
from bertserve.tasks.finish import finish_item
from bertserve.tasks.limits import Limits
from bertserve.tasks.prepare import prepare, tokenize_inputs
from bertserve.tokenizer import Tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from open_inference import arrays, infer_request
from servers import PRETRAINING

LIMITS = Limits(max_inputs=8, max_characters=1000, max_top_k=100, max_response_bytes=10_000_000)
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

elements = st.lists(st.binary(max_size=20), max_size=8)


@pytest.fixture(scope="module")
def model() -> ServedModel:
    bundle = read_bundle(PRETRAINING)
    tokenizer = Tokenizer(bundle.tokenizer_path, bundle.model)
    return ServedModel(
        name="pretraining", bundle=bundle, tokenizer=tokenizer, engine=open_engine(bundle, threads=1), golden=()
    )


@PATIENT
@given(elements)
def test_strings_come_back_as_they_were(given: list[bytes]) -> None:
    """Empty ones, and none at all, included."""
    assert read_strings(write_strings(given), len(given)) == given


def test_a_string_is_its_length_and_itself() -> None:
    """As the public protocol has it: four bytes, little-endian, then the element."""
    assert write_strings([b"cat", b""]) == b"\x03\0\0\0cat\0\0\0\0"


@PATIENT
@given(elements, st.data())
def test_bytes_that_end_early_are_malformed(given: list[bytes], data: st.DataObject) -> None:
    """Wherever they are cut, within a length or within an element."""
    raw = write_strings([*given, b"x"])
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(MalformedTensor):
        read_strings(raw[:cut], len(given) + 1)


@PATIENT
@given(elements, st.binary(min_size=1, max_size=9))
def test_bytes_that_follow_the_last_element_are_malformed(given: list[bytes], more: bytes) -> None:
    """Whether they would make an element or not."""
    with pytest.raises(MalformedTensor):
        read_strings(write_strings(given) + more, len(given))


def test_a_length_beyond_the_end_costs_nothing() -> None:
    """Four gigabytes are named, none are taken."""
    with pytest.raises(MalformedTensor, match="end within element 0 of 1"):
        read_strings(b"\xff\xff\xff\xffcat", 1)


@PATIENT
@given(st.lists(st.floats(width=32, allow_nan=False), max_size=8))
def test_floats_come_back_as_they_were(given: list[float]) -> None:
    """Bit for bit, whatever the order of the array's bytes."""
    array = np.array(given, dtype=">f4")
    np.testing.assert_array_equal(np.frombuffer(write_floats(array), dtype="<f4"), array)


names = st.sampled_from(["text", "text_pair", "embedding", "mask_tokens", "next_sentence_probability", "", "é"])
shapes = st.lists(st.one_of(st.integers(-1, 3), st.integers(-(2**63), 2**63 - 1)), max_size=3)
parameters = st.one_of(
    st.builds(oip.InferParameter, int64_param=st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)),
    st.builds(oip.InferParameter, string_param=st.sampled_from(["cls", "none", "", "1,2", "1,x", "end"])),
    st.builds(oip.InferParameter, double_param=st.floats()),
    st.builds(oip.InferParameter, bool_param=st.booleans()),
    st.builds(oip.InferParameter),
)
parameter_names = st.sampled_from(["top_k", "layers", "pooling", "truncation", "timeout", "normalize", "x"])
outputs = st.builds(oip.ModelInferRequest.InferRequestedOutputTensor, name=names)
inputs = st.builds(
    oip.ModelInferRequest.InferInputTensor,
    name=names,
    datatype=st.sampled_from(["BYTES", "FP32", ""]),
    shape=shapes,
    contents=st.none() | st.builds(oip.InferTensorContents, bytes_contents=elements),
)
additions = st.one_of(
    st.builds(oip.ModelInferRequest, parameters=st.dictionaries(parameter_names, parameters, max_size=2)),
    st.builds(oip.ModelInferRequest, outputs=st.lists(outputs, max_size=3)),
    st.builds(oip.ModelInferRequest, inputs=st.lists(inputs, max_size=2)),
    st.builds(oip.ModelInferRequest, raw_input_contents=st.lists(st.binary(max_size=20), max_size=2)),
)


@st.composite
def requests(draw: st.DrawFn) -> oip.ModelInferRequest:
    """A good one of some texts, to which things are added, and of which bytes are then changed."""
    texts = draw(st.lists(st.sampled_from(["a", "the [MASK]", "", "é"]), max_size=9))
    request = infer_request(texts, draw(st.none() | st.just(texts)))
    for addition in draw(st.lists(additions, max_size=2)):
        request.MergeFrom(addition)
    if request.raw_input_contents and draw(st.booleans()):
        raw = bytearray(request.raw_input_contents[0])
        if raw:
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
        request.raw_input_contents[0] = bytes(raw)
    if draw(st.booleans()):
        request.inputs[0].shape[0] = draw(st.integers(-1, 9))
    return request


@PATIENT
@given(request=requests())
def test_any_request_is_read_or_refused(request: oip.ModelInferRequest, model: ServedModel) -> None:
    """Never anything but InvalidInput; what is read has as many texts as its tensors have rows."""
    try:
        inference = read_inference(request, model, LIMITS)
    except InvalidInput:
        return
    (rows,) = {given.shape[0] for given in request.inputs}
    assert len(inference.ask.inputs) == rows <= LIMITS.max_inputs


words = st.sampled_from(["the", "[MASK]", "cat", "é"])
texts = st.lists(words, min_size=1, max_size=20).map(lambda words: f"a {' '.join(words)}")


@settings(PATIENT, max_examples=40)
@given(texts=st.lists(texts, min_size=1, max_size=6), top_k=st.integers(1, 20))
def test_no_answer_is_larger_than_was_foretold(texts: list[str], top_k: int, model: ServedModel) -> None:
    """Padding included: one text of many masks makes the tensor of all of them wide."""
    request = infer_request(texts, outputs=["mask_tokens", "mask_log_probabilities", "embedding"], top_k=top_k)
    inference = read_inference(request, model, LIMITS)
    prepared = prepare(
        model, inference.ask, tokenize_inputs(model, inference.ask, 0, len(texts)), LIMITS, TensorSizes()
    )
    outputs = model.engine.run_items(list(prepared.items))
    analyses = tuple(finish_item(model, prepared, index, own) for index, own in enumerate(outputs))
    answer = Answer(analyses=analyses, timings=Timings(), is_large=False)
    response = write_inference(request, model, inference, answer)
    assert sum(map(len, response.raw_output_contents)) <= prepared.response_bytes
    most = max(text.count("[MASK]") for text in texts)
    assert arrays(response)["mask_tokens"].shape == (len(texts), most, top_k)
