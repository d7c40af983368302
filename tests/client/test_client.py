"""Both clients against a real server."""

import dataclasses
import inspect
import socket

import numpy as np
import pytest
from bertapi.client import (
    AsyncBertClient,
    BertClient,
    EmbedOptions,
    FillMaskOptions,
    InvalidInputError,
    TextInput,
    UnavailableError,
)

FIRST, SECOND = "the [MASK] sat on the mat", "it was a good day"

CALLS = {
    "embed": lambda client: client.embed([FIRST, (FIRST, SECOND)], include_tokens=True),
    "embed unpooled": lambda client: client.embed(SECOND, pooling="none", layers=[0, -1], layer_merge="mean"),
    "embed float16": lambda client: client.embed(SECOND, vector_type="float16", normalize=True),
    "fill_mask": lambda client: client.fill_mask([FIRST, FIRST], top_k=3, targets=["cat", "dog"]),
    "score_next_sentence": lambda client: client.score_next_sentence(SECOND, ["it was", "the cat"]),
    "analyze": lambda client: client.analyze(
        (FIRST, SECOND), embed=EmbedOptions(pooling="cls"), fill_mask=FillMaskOptions(top_k=2), next_sentence=True
    ),
    "classify": lambda client: client.classify([SECOND, (FIRST, SECOND)], model="classifier"),
    "tag_tokens": lambda client: client.tag_tokens([SECOND, (SECOND, "a cat")], aggregation="simple", model="tagger"),
    "analyze tags": lambda client: client.analyze(SECOND, tag_tokens=True, model="tagger"),
    "tokenize": lambda client: client.tokenize((FIRST, SECOND)),
    "get_model": lambda client: client.get_model(),
    "list_models": lambda client: client.list_models(),
}


@pytest.fixture
def client(server):
    with BertClient(server.target) as client:
        client.wait_ready()
        yield client


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_both_clients_give_the_same(server, client, call):
    """The synchronous and the asynchronous client return equal results."""
    async with AsyncBertClient(server.target) as async_client:
        await async_client.wait_ready()
        assert _comparable(await call(async_client)) == _comparable(call(client))


def test_pooled_vectors(client):
    """Several texts give one matrix, float32 unless asked."""
    matrix = client.embed([FIRST, SECOND]).matrix
    assert (matrix.shape, matrix.dtype) == ((2, client.get_model().hidden_size), np.float32)


def test_token_vectors(client):
    """Without pooling there is one vector per token, and the tokens say where they stand in the text."""
    (found,) = client.embed(SECOND, pooling="none", include_tokens=True)
    assert len(found.vectors) == len(found.tokens) == found.token_count
    words = [SECOND[token.start : token.end] for token in found.tokens if not token.special]
    assert "".join(words) == SECOND.replace(" ", "")


def test_float16_is_the_same_vector_at_half_the_size(client):
    """Half precision rounds the vectors and nothing else."""
    full, half = (client.embed(SECOND, vector_type=name)[0].vectors for name in ("float32", "float16"))
    assert half.dtype == np.float16
    np.testing.assert_array_equal(full.astype(np.float16), half)


def test_masked_words(client):
    """Predictions come best first; targets in the order asked, with a probability each."""
    (mask,) = client.fill_mask(FIRST, top_k=4, targets=["dog", "cat"])[0].masks
    probabilities = [prediction.probability for prediction in mask.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(probabilities) == 4
    assert [target.token for target in mask.targets] == ["dog", "cat"]
    assert FIRST[mask.start : mask.end] == "[MASK]"


def test_targets_of_one_input(client):
    """A TextInput carries its own targets."""
    found = client.fill_mask([FIRST, TextInput(text=FIRST, targets=["cat"])])
    assert [len(filled.masks[0].targets) for filled in found] == [0, 1]


def test_labels(client):
    """Every label of the model comes back, best first."""
    (found,) = client.classify(SECOND, model="classifier")
    assert {label.label for label in found.labels} == set(client.get_model(model="classifier").labels)
    logits = [label.logit for label in found.labels]
    assert logits == sorted(logits, reverse=True)


def test_token_labels_and_entities(client):
    """Every word has a label; an entity says what it is, where it stands, and in what words."""
    (found,) = client.tag_tokens(SECOND, aggregation="simple", model="tagger")
    assert [SECOND[tagged.token.start : tagged.token.end] for tagged in found.tokens] == SECOND.split()
    assert {tagged.label.label for tagged in found.tokens} <= set(client.get_model(model="tagger").labels)
    assert found.entities
    assert [entity.text for entity in found.entities] == [SECOND[e.start : e.end] for e in found.entities]


def test_answers_say_who_gave_them(client):
    """The info of an answer names the model and its bundle, and says where the time went."""
    info, model = client.embed(SECOND).info, client.get_model()
    assert (info.model, info.bundle_id) == (model.name, model.bundle_id)
    assert info.timings.infer_seconds > 0


def test_server_names_the_field_at_fault(client):
    """What the server refuses arrives with the path of the field."""
    with pytest.raises(InvalidInputError) as caught:
        client.embed(["a", " "])
    assert [violation.field for violation in caught.value.violations] == ["inputs[1].text"]


def _comparable(value):
    """Plain values, without what differs from call to call: the timings."""
    if isinstance(value, np.ndarray):
        return (value.dtype.name, value.shape, value.tobytes())
    if dataclasses.is_dataclass(value):
        return {f.name: _comparable(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != "timings"}
    if isinstance(value, tuple):
        return [_comparable(item) for item in value]
    return value


def test_stream_answers_every_input_by_its_index(client):
    """As `analyze` does; the inputs may come from anywhere, and are read as the server takes them."""
    texts = [f"{SECOND} {SECOND * (number % 5)}" for number in range(100)]
    answers = {answer.index: answer for answer in client.stream_analyze(iter(texts), embed=True)}
    assert sorted(answers) == list(range(100))
    for index, analysis in enumerate(client.analyze(texts, embed=True)):
        np.testing.assert_array_equal(answers[index].analysis.embedding.vectors, analysis.embedding.vectors)


def test_bad_input_of_a_stream_is_an_error_of_its_own(client):
    """The same that a call of its own would raise, field included."""
    good, bad = sorted(client.stream_analyze([SECOND, ""], embed=True), key=lambda answer: answer.index)
    assert good.error is None
    assert bad.analysis is None
    assert isinstance(bad.error, InvalidInputError)
    assert [violation.field for violation in bad.error.violations] == ["input.text"]


def broken_texts():
    yield SECOND
    raise OSError("the disk is gone")


async def test_what_the_inputs_of_a_stream_raise_comes_to_its_caller(server, client):
    """After the answers to what was sent before, from either client; gRPC itself would say that the call was at fault,
    or cancel the caller."""
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(answer.index for answer in client.stream_analyze(broken_texts(), embed=True))
    assert seen == [0]

    async def read(answers):
        async for answer in answers:
            seen.append(answer.index)  # noqa: PERF401 - what came before the error counts

    async with AsyncBertClient(server.target) as async_client:
        with pytest.raises(TypeError, match="a text is a str"):
            await read(async_client.stream_analyze([SECOND, 7], embed=True))
    assert seen == [0, 0]


async def test_asynchronous_stream_reads_asynchronous_inputs(server):
    """And stops when its reader does."""

    async def texts():
        while True:
            yield SECOND

    async with AsyncBertClient(server.target, model="classifier") as client:
        seen = []
        async for answer in client.stream_analyze(texts(), classify=True):
            assert answer.analysis.classification.labels
            assert answer.info.model == "classifier"
            seen.append(answer.index)
            if len(seen) == 100:
                break
    assert len(set(seen)) == 100


def test_stream_that_fails_as_a_whole_raises():
    """Where nothing listens there is nothing to answer."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        with BertClient(target) as client, pytest.raises(UnavailableError):
            list(client.stream_analyze([SECOND], embed=True, timeout_seconds=30))


def test_help_shows_what_a_stream_takes(client):
    """The builder's parameters, on the bound method."""
    parameters = inspect.signature(client.stream_analyze).parameters
    assert next(iter(parameters)) == "inputs"
    assert "truncation" in parameters
