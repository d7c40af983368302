"""The Open Inference Protocol over real gRPC: the same answers as the typed API's, and the same refusals."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from bertapi.oip import inference_pb2 as oip
from bertapi.oip import inference_pb2_grpc as oip_grpc
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from open_inference import Request, arrays, infer_request, tensor
from servers import CLASSIFIER, PLAIN, PRETRAINING, TAGGER, RunningServer, running_server

SERVICE = "inference.GRPCInferenceService"
FIRST, SECOND = "calculus is a [MASK] of math", "it [MASK] developed by [MASK] and leibniz"
ALL = ["embedding", "mask_tokens", "mask_log_probabilities", "next_sentence_probability"]
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def opened() -> Iterator[RunningServer]:
    with running_server(PRETRAINING, CLASSIFIER, PLAIN, TAGGER, "--open-inference") as running:
        yield running


@pytest.fixture(scope="module")
def channel(opened: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(opened.target) as channel:
        yield channel


@pytest.fixture
def inference(channel: grpc.Channel) -> oip_grpc.GRPCInferenceServiceStub:
    return oip_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def typed(channel: grpc.Channel) -> pb_grpc.BertServiceStub:
    return pb_grpc.BertServiceStub(channel)


Stub = oip_grpc.GRPCInferenceServiceStub


def infer(stub: Stub, *given: object, **options: object) -> dict[str, np.ndarray]:
    return arrays(stub.ModelInfer(infer_request(*given, **options), timeout=30))  # type: ignore[arg-type]


def embed(stub: pb_grpc.BertServiceStub, text: str, pair: str | None = None, **options: object) -> np.ndarray:
    request = pb.EmbedRequest(inputs=[pb.TextInput(text=text, text_pair=pair)], options=pb.EmbedOptions(**options))
    (embedding,) = stub.Embed(request, timeout=30).embeddings
    return np.frombuffer(embedding.vectors.data, dtype="<f4")


def test_it_is_off_until_asked_for(server: RunningServer) -> None:
    """A port answers what its operator wants answered: neither method, nor reflection, nor health, nor series."""
    with grpc.insecure_channel(server.target) as channel:
        call = oip_grpc.GRPCInferenceServiceStub(channel).ServerLive.future(oip.ServerLiveRequest(), timeout=30)
        assert call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert SERVICE not in services(channel)
        assert not files(channel, SERVICE)
    assert SERVICE not in server.page("/metrics")[1]


def reflect(channel: grpc.Channel, **asked: str) -> reflection_pb2.ServerReflectionResponse:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**asked)]), timeout=30)
    return answer


def services(channel: grpc.Channel) -> set[str]:
    return {service.name for service in reflect(channel, list_services="").list_services_response.service}


def files(channel: grpc.Channel, symbol: str) -> list[bytes]:
    """That describe a service or message; none where the server does not tell of it."""
    answer = reflect(channel, file_containing_symbol=symbol)
    return list(answer.file_descriptor_response.file_descriptor_proto)


def test_reflection_and_health_know_the_service(channel: grpc.Channel) -> None:
    """Beside the typed API, and all that they are made of; the details of errors too, which tools decode by it."""
    assert {SERVICE, "bertapi.v1.BertService"} <= services(channel)
    for symbol in (*services(channel), "google.rpc.BadRequest", "google.rpc.RetryInfo", "google.protobuf.Duration"):
        assert files(channel, symbol), symbol
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    assert health_pb2_grpc.HealthStub(channel).Check(request, timeout=30).status == SERVING


def test_server_and_models_are_ready(inference: Stub) -> None:
    """Live, ready, and every bundle of the one version that there is."""
    assert inference.ServerLive(oip.ServerLiveRequest(), timeout=30).live
    assert inference.ServerReady(oip.ServerReadyRequest(), timeout=30).ready
    for version in ("", "1"):
        assert inference.ModelReady(oip.ModelReadyRequest(name="tagger", version=version), timeout=30).ready


def test_server_says_what_it_extends(inference: Stub) -> None:
    """perf_analyzer asks for statistics only where they are announced."""
    metadata = inference.ServerMetadata(oip.ServerMetadataRequest(), timeout=30)
    assert metadata.name == "bertserve"
    assert metadata.version
    assert list(metadata.extensions) == ["model_configuration", "statistics"]


OUTPUTS = {
    "pretraining": {
        "embedding": ("FP32", [-1, -1]),
        "mask_tokens": ("BYTES", [-1, -1, -1]),
        "mask_log_probabilities": ("FP32", [-1, -1, -1]),
        "next_sentence_probability": ("FP32", [-1, 1]),
    },
    "classifier": {
        "embedding": ("FP32", [-1, -1]),
        "label_logits": ("FP32", [-1, 2]),
        "label_probabilities": ("FP32", [-1, 2]),
        "label_scores": ("FP32", [-1, 2]),
    },
    "plain": {"embedding": ("FP32", [-1, -1])},
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_are_those_of_the_heads(inference: Stub, name: str) -> None:
    """Metadata with the batch's dimension, configuration without, and the same tensors in both."""
    metadata = inference.ModelMetadata(oip.ModelMetadataRequest(name=name), timeout=30)
    assert {output.name: (output.datatype, list(output.shape)) for output in metadata.outputs} == OUTPUTS[name]
    assert [(given.name, given.datatype, list(given.shape)) for given in metadata.inputs] == [
        ("text", "BYTES", [-1, 1]),
        ("text_pair", "BYTES", [-1, 1]),
    ]
    assert list(metadata.versions) == ["1"]
    config = inference.ModelConfig(oip.ModelConfigRequest(name=name), timeout=30).config
    assert [(output.name, [-1, *output.dims]) for output in config.output] == [
        (output.name, list(output.shape)) for output in metadata.outputs
    ]
    assert [given.optional for given in config.input] == [False, True]
    assert config.max_batch_size == 1024
    assert config.HasField("dynamic_batching")


def test_configuration_names_labels_and_bundle(inference: Stub, typed: pb_grpc.BertServiceStub) -> None:
    """What a caller needs beside tensors: which label is which column, and which bundle computed it."""
    model = typed.GetModel(pb.GetModelRequest(model="classifier"), timeout=30).model
    config = inference.ModelConfig(oip.ModelConfigRequest(name="classifier"), timeout=30).config
    assert json.loads(config.parameters["labels"].string_value) == list(model.labels)
    assert config.parameters["bundle_id"].string_value == model.bundle_id
    assert config.parameters["hidden_size"].string_value == str(model.hidden_size)


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, {}),
        ({"pooling": "cls", "normalize": True}, {"pooling": pb.POOLING_CLS, "normalize": True}),
        ({"pooling": "pooler"}, {"pooling": pb.POOLING_POOLER}),
        ({"layers": 1}, {"layers": [1]}),
        ({"layers": "-1,-2"}, {"layers": [-1, -2]}),
        (
            {"layers": "0, 2", "layer_merge": "mean", "pooling": "max"},
            {"layers": [0, 2], "layer_merge": pb.LAYER_MERGE_MEAN, "pooling": pb.POOLING_MAX},
        ),
    ],
)
def test_embeddings_are_those_of_embed(
    inference: Stub, typed: pb_grpc.BertServiceStub, parameters: dict[str, object], options: dict[str, object]
) -> None:
    """Bit for bit, of texts and of pairs, whatever is asked for."""
    texts, pairs = [FIRST, "the cat"], [SECOND, ""]
    alone = infer(inference, texts, outputs=["embedding"], **parameters)["embedding"]
    paired = infer(inference, texts, pairs, outputs=["embedding"], **parameters)["embedding"]
    np.testing.assert_array_equal(alone, [embed(typed, text, **options) for text in texts])
    np.testing.assert_array_equal(
        paired, [embed(typed, text, pair, **options) for text, pair in zip(texts, pairs, strict=True)]
    )


def test_tokens_at_masks_are_those_of_fill_mask(inference: Stub, typed: pb_grpc.BertServiceStub) -> None:
    """Tokens and log-probabilities, best first; a text of fewer masks is padded behind its own."""
    request = pb.FillMaskRequest(
        inputs=[pb.TextInput(text=FIRST), pb.TextInput(text=SECOND)], options=pb.FillMaskOptions(top_k=3)
    )
    expected = [mask for result in typed.FillMask(request, timeout=30).results for mask in result.masks]
    found = infer(inference, [FIRST, SECOND], outputs=["mask_log_probabilities", "mask_tokens"], top_k=3)
    assert list(found) == ["mask_log_probabilities", "mask_tokens"]
    tokens, scores = found["mask_tokens"], found["mask_log_probabilities"]
    assert tokens.shape == scores.shape == (2, 2, 3)
    for place, mask in zip([(0, 0), (1, 0), (1, 1)], expected, strict=True):
        assert [token.decode() for token in tokens[place]] == [prediction.token for prediction in mask.predictions]
        np.testing.assert_array_equal(scores[place], np.float32([p.log_probability for p in mask.predictions]))
    assert list(tokens[0, 1]) == [b""] * 3
    assert np.isnan(scores[0, 1]).all()


def test_next_sentence_probabilities_are_those_of_the_typed_call(
    inference: Stub, typed: pb_grpc.BertServiceStub
) -> None:
    """One a pair."""
    request = pb.ScoreNextSentenceRequest(first=FIRST, candidates=[SECOND, "the cat"])
    expected = [[score.probability] for score in typed.ScoreNextSentence(request, timeout=30).scores]
    found = infer(inference, [FIRST] * 2, [SECOND, "the cat"], outputs=["next_sentence_probability"])
    np.testing.assert_array_equal(found["next_sentence_probability"], np.float32(expected))


def test_labels_are_those_of_classify_in_the_order_of_their_index(
    inference: Stub, typed: pb_grpc.BertServiceStub
) -> None:
    """Logits and probabilities, all labels of each text."""
    request = pb.ClassifyRequest(model="classifier", inputs=[pb.TextInput(text="the cat"), pb.TextInput(text=SECOND)])
    results = [sorted(r.labels, key=lambda label: label.index) for r in typed.Classify(request, timeout=30).results]
    found = infer(inference, ["the cat", SECOND], model="classifier")
    assert list(found) == ["embedding", "label_logits", "label_probabilities", "label_scores"]
    for name, field in (("label_logits", "logit"), ("label_probabilities", "probability"), ("label_scores", "score")):
        expected = [[getattr(label, field) for label in labels] for labels in results]
        np.testing.assert_array_equal(found[name], np.float32(expected))


def test_all_outputs_come_where_none_is_named(inference: Stub) -> None:
    """From one pass, equal to what each is alone."""
    together = infer(inference, [FIRST], [SECOND])
    assert list(together) == ALL
    for name, array in together.items():
        np.testing.assert_array_equal(infer(inference, [FIRST], [SECOND], outputs=[name])[name], array)


def test_what_a_text_has_nothing_of_is_padding(inference: Stub) -> None:
    """Tools that name every output get one for plain texts too: no mask, and no pair to score."""
    found = infer(inference, ["the cat", "the dog"], outputs=ALL)
    assert found["mask_tokens"].shape == found["mask_log_probabilities"].shape == (2, 0, 5)
    assert np.isnan(found["next_sentence_probability"]).all()
    assert found["next_sentence_probability"].shape == (2, 1)
    assert np.isfinite(found["embedding"]).all()


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_texts_may_come_as_typed_contents(inference: Stub, shape: list[int]) -> None:
    """The protocol's other place for elements, and both shapes of a list of texts; the answer is raw."""
    given = tensor("text", *shape)
    given.contents.bytes_contents.extend([FIRST.encode(), b"the cat"])
    response = inference.ModelInfer(Request(model_name="pretraining", inputs=[given]), timeout=30)
    np.testing.assert_array_equal(arrays(response)["embedding"], infer(inference, [FIRST, "the cat"])["embedding"])
    assert not any(output.HasField("contents") for output in response.outputs)


def test_what_kserves_client_says_of_http_changes_nothing(inference: Stub) -> None:
    """Its InferenceGRPCClient sends the sizes and places that a body of HTTP would have."""
    request = infer_request(["the cat"], outputs=["embedding"], binary_data_output=True)
    request.inputs[0].parameters["binary_data_size"].int64_param = 11
    request.outputs[0].parameters["binary_data"].bool_param = True
    found = arrays(inference.ModelInfer(request, timeout=30))
    np.testing.assert_array_equal(found["embedding"], infer(inference, ["the cat"])["embedding"])


def test_answer_names_request_model_and_version(inference: Stub) -> None:
    """The caller's id comes back, and the server's own in the trailing metadata."""
    request = infer_request(["the cat"], model="plain")
    request.id, request.model_version = "17", "1"
    call = inference.ModelInfer.with_call(request, timeout=30, metadata=[("x-request-id", "my-id")])
    response = call[0]
    assert (response.id, response.model_name, response.model_version) == ("17", "plain", "1")
    assert ("x-request-id", "my-id") in [(key, value) for key, value in call[1].trailing_metadata()]


def test_long_text_is_cut_where_that_is_asked_for(inference: Stub) -> None:
    """As the typed API's truncation does."""
    assert np.isfinite(infer(inference, ["the cat " * 500], model="plain", truncation="end")["embedding"]).all()


def raw(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def changed(**fields: object) -> oip.ModelInferRequest:
    """One text to embed, with other fields."""
    request = infer_request(["the cat"])
    for name in fields:
        request.ClearField(name)  # type: ignore[arg-type]
    request.MergeFrom(Request(**fields))  # type: ignore[arg-type]
    return request


def asked(name: str, **parameters: object) -> oip.ModelInferRequest.InferRequestedOutputTensor:
    given = {key: oip.InferParameter(string_param=str(value)) for key, value in parameters.items()}
    return Request.InferRequestedOutputTensor(name=name, parameters=given)


NUMBERS = Request.InferInputTensor(name="text", datatype="FP32", shape=[1])
TWICE = Request.InferInputTensor(
    name="text", datatype="BYTES", shape=[1], contents=oip.InferTensorContents(bytes_contents=[b"a"])
)
TWO_TYPES = Request.InferInputTensor(
    name="text",
    datatype="BYTES",
    shape=[1],
    contents=oip.InferTensorContents(bytes_contents=[b"a"], int64_contents=[1]),
)
BAD = {
    "no input": (changed(inputs=[], raw_input_contents=[]), "text"),
    "no text": (changed(inputs=[tensor("text_pair", 1)]), "text"),
    "no element": (infer_request([]), "text"),
    "too many": (changed(inputs=[tensor("text", 2**40)]), "text"),
    "unknown input": (changed(inputs=[tensor("input_ids", 1)]), "inputs[0].name"),
    "input twice": (
        changed(inputs=[tensor("text", 1), tensor("text", 1)], raw_input_contents=[raw(b"a"), raw(b"a")]),
        "inputs[1].name",
    ),
    "numbers": (changed(inputs=[NUMBERS]), "inputs[0].datatype"),
    "no shape": (changed(inputs=[Request.InferInputTensor(name="text", datatype="BYTES")]), "inputs[0].shape"),
    "wide shape": (changed(inputs=[tensor("text", 1, 2)]), "inputs[0].shape"),
    "deep shape": (changed(inputs=[tensor("text", 1, 1, 1)]), "inputs[0].shape"),
    "negative shape": (changed(inputs=[tensor("text", -1)]), "inputs[0].shape"),
    "short contents": (changed(inputs=[tensor("text", 2)]), "raw_input_contents[0]"),
    "long contents": (changed(raw_input_contents=[raw(b"a", b"b")]), "raw_input_contents[0]"),
    "no contents": (changed(raw_input_contents=[]), "inputs[0].contents"),
    "contents of two types": (
        changed(inputs=[TWO_TYPES], raw_input_contents=[]),
        "inputs[0].contents",
    ),
    "more contents": (changed(raw_input_contents=[raw(b"a"), raw(b"b")]), "raw_input_contents"),
    "both contents": (changed(inputs=[TWICE]), "inputs[0].contents"),
    "no UTF-8": (changed(inputs=[tensor("text", 2)], raw_input_contents=[raw(b"a", b"\xff")]), "text[1]"),
    "other number of pairs": (infer_request(["a", "b"], ["c"]), "text_pair"),
    "empty text": (infer_request(["a", ""]), "text[1]"),
    "long text": (infer_request(["a", "the cat " * 500]), "text[1]"),
    "long pair": (infer_request(["a"], ["the cat " * 500]), "text_pair[0]"),
    "characters": (infer_request(["a" * 70_000]), "text[0]"),
    "masks wanted alone": (infer_request([FIRST, "the cat"], outputs=["mask_tokens"]), "text[1]"),
    "score wanted alone": (infer_request(["the cat"], outputs=["next_sentence_probability"]), "text_pair[0]"),
    "unknown output": (changed(outputs=[asked("logits")]), "outputs[0].name"),
    "output of another head": (infer_request(["a"], outputs=["mask_tokens"], model="plain"), "outputs[0].name"),
    "too many outputs": (changed(outputs=[asked("embedding")] * 5), "outputs"),
    "shared memory": (changed(outputs=[asked("embedding", shared_memory_region="x")]), "outputs[0].parameters"),
    "unknown parameter": (infer_request(["a"], topk=3), "parameters"),
    "unknown pooling": (infer_request(["a"], pooling="median"), "parameters[pooling]"),
    "unknown pooling of nothing": (infer_request([FIRST], outputs=["mask_tokens"], pooling="x"), "parameters[pooling]"),
    "vectors of tokens": (infer_request(["a"], pooling="none"), "parameters[pooling]"),
    "pooling by number": (infer_request(["a"], pooling=1), "parameters[pooling]"),
    "layer beyond": (infer_request(["a"], layers="1,9"), "parameters[layers]"),
    "millions of layers": (infer_request(["a"], layers="1," * 2_000_000 + "1"), "parameters[layers]"),
    "no layer": (infer_request(["a"], layers="last"), "parameters[layers]"),
    "layer in other digits": (infer_request(["a"], layers="\N{ARABIC-INDIC DIGIT ONE}"), "parameters[layers]"),
    "normalize by number": (infer_request(["a"], normalize=1), "parameters[normalize]"),
    "large top_k": (infer_request([FIRST], top_k=10**6), "parameters[top_k]"),
    "no top_k": (infer_request([FIRST], top_k=0), "parameters[top_k]"),
    "top_k by word": (infer_request([FIRST], top_k="3"), "parameters[top_k]"),
    "past timeout": (infer_request(["a"], timeout=-1), "parameters[timeout]"),
    "padding of a gigabyte": (
        infer_request(["[MASK] " * 100, *["[MASK]"] * 1000], outputs=["mask_tokens"], top_k=500),
        "text",
    ),
}


@pytest.mark.parametrize(("request_", "field"), BAD.values(), ids=BAD)
def test_bad_request_is_told_which_field(inference: Stub, request_: oip.ModelInferRequest, field: str) -> None:
    """INVALID_ARGUMENT with BadRequest details, in the terms of tensors."""
    call = inference.ModelInfer.future(request_, timeout=30)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT, call.details()
    (detail,) = rpc_status.from_call(call).details
    bad = error_details_pb2.BadRequest()
    assert detail.Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == [field]


@pytest.mark.parametrize(("name", "version"), [("nothing", ""), ("plain", "2"), ("plain", "latest"), ("", "2")])
def test_unknown_model_or_version_is_not_found(inference: Stub, name: str, version: str) -> None:
    """For every method that names one."""
    inferred = infer_request(["a"], model=name)
    inferred.model_version = version
    calls = [
        inference.ModelReady.future(oip.ModelReadyRequest(name=name, version=version), timeout=30),
        inference.ModelMetadata.future(oip.ModelMetadataRequest(name=name, version=version), timeout=30),
        inference.ModelConfig.future(oip.ModelConfigRequest(name=name, version=version), timeout=30),
        inference.ModelStatistics.future(oip.ModelStatisticsRequest(name=name, version=version), timeout=30),
        inference.ModelInfer.future(inferred, timeout=30),
    ]
    assert {call.code() for call in calls} == {grpc.StatusCode.NOT_FOUND}


def test_garbled_request_is_an_invalid_argument(channel: grpc.Channel) -> None:
    """As of the typed API."""
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(b"\xff\xff", timeout=30)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_timeout_parameter_is_a_deadline(inference: Stub) -> None:
    """Triton's, in microseconds: a request that it is too short for is not begun."""
    call = inference.ModelInfer.future(infer_request(["the cat sat"] * 100, timeout=1), timeout=30)
    assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert re.fullmatch(r"the request takes (?!0\.000)[\d.]+ s, the deadline is nearer", call.details())
    assert infer(inference, ["the cat sat"], timeout=30_000_000)["embedding"].shape == (1, 32)


def test_statistics_count_requests_texts_batches_and_time(inference: Stub) -> None:
    """Of one model: what was answered, what failed, and how long each stage took, within the time of the calls."""
    before = statistics(inference)
    started = time.monotonic_ns()
    for _ in range(3):
        infer(inference, ["the cat"] * 5, model="plain")
    elapsed = time.monotonic_ns() - started
    inference.ModelInfer.future(infer_request([""], model="plain"), timeout=30).exception()
    after = statistics(inference)
    assert after.inference_count - before.inference_count == 15
    assert 3 <= after.execution_count - before.execution_count <= 15
    assert abs(after.last_inference / 1000 - time.time()) < 60
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    spent = {}
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        later, earlier = getattr(after.inference_stats, name), getattr(before.inference_stats, name)
        assert later.count - earlier.count == 3
        spent[name] = later.ns - earlier.ns
    assert spent["compute_infer"] > 0
    assert spent["queue"] + spent["compute_input"] + spent["compute_infer"] < spent["success"] < elapsed


def statistics(stub: Stub, name: str = "plain") -> oip.ModelStatistics:
    (found,) = stub.ModelStatistics(oip.ModelStatisticsRequest(name=name), timeout=30).model_stats
    assert (found.name, found.version) == (name, "1")
    return found


def test_statistics_of_no_model_are_those_of_all(inference: Stub) -> None:
    """In the order in which they are served."""
    found = inference.ModelStatistics(oip.ModelStatisticsRequest(), timeout=30).model_stats
    assert [model.name for model in found] == ["pretraining", "classifier", "plain", "tagger"]


def test_calls_are_counted_as_those_of_the_typed_api(opened: RunningServer, inference: Stub) -> None:
    """The same series, by service and method; and what is refused counts for its model."""
    labels = f'grpc_method="ModelInfer",grpc_service="{SERVICE}",grpc_type="unary"'
    ok, bad = (f'grpc_server_handled_total{{grpc_code="{code}",{labels}}}' for code in ("OK", "InvalidArgument"))
    rejected = 'bertserve_rejected_total{model="tagger",reason="invalid"}'
    before = [opened.sample(series) for series in (ok, bad, rejected)]
    infer(inference, ["the cat"], model="tagger")
    inference.ModelInfer.future(infer_request([""], model="tagger"), timeout=30).exception()
    opened.wait_for(bad, before[1] + 1)
    after = [opened.sample(series) for series in (ok, bad, rejected)]
    assert [later - earlier for later, earlier in zip(after, before, strict=True)] == [1, 1, 1]


def test_leaving_server_is_not_ready_and_still_answers() -> None:
    """Through the drain pause; then it is gone, with nothing lost."""
    with running_server(PLAIN, "--open-inference", "--drain-pause", "1") as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = oip_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerReady(oip.ServerReadyRequest(), timeout=30).ready
            server.process.send_signal(signal.SIGTERM)
            while server.page("/readyz")[0] == 200:
                time.sleep(0.01)
            assert not stub.ServerReady(oip.ServerReadyRequest(), timeout=30).ready
            assert not stub.ModelReady(oip.ModelReadyRequest(name="plain"), timeout=30).ready
            assert stub.ServerLive(oip.ServerLiveRequest(), timeout=30).live
            assert infer(stub, ["the cat"], model="plain")["embedding"].shape == (1, 32)
        assert server.process.wait(timeout=60) == 0
