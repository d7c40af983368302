"""What the clients make of answers."""

import dataclasses

import numpy as np
import pytest
from bertapi import responses, results
from bertapi.errors import MalformedResponseError
from bertapi.v1 import bert_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration

TENSORS = {
    "float32 vector": (pb.VECTOR_TYPE_FLOAT32, "<f4", [3]),
    "float16 vector": (pb.VECTOR_TYPE_FLOAT16, "<f2", [3]),
    "float32 rows": (pb.VECTOR_TYPE_FLOAT32, "<f4", [2, 3]),
    "float16 rows": (pb.VECTOR_TYPE_FLOAT16, "<f2", [4, 5]),
    "no rows": (pb.VECTOR_TYPE_FLOAT32, "<f4", [0, 3]),
}

MALFORMED = {
    "type left open": pb.Tensor(shape=[1], data=b"\0\0\0\0"),
    "type of a newer server": pb.Tensor(shape=[1], type=9, data=b"\0\0\0\0"),
    "too few bytes": pb.Tensor(shape=[2], type=pb.VECTOR_TYPE_FLOAT32, data=b"\0\0\0\0"),
    "too many bytes": pb.Tensor(shape=[1], type=pb.VECTOR_TYPE_FLOAT16, data=b"\0\0\0\0"),
}

RECORDS = (
    results.Token,
    results.ResponseInfo,
    results.Embedding,
    results.TokenPrediction,
    results.MaskPrediction,
    results.FilledText,
    results.NextSentenceScore,
    results.LabelScore,
    results.Classification,
    results.TaggedToken,
    results.Entity,
    results.TaggedText,
    results.TokenizedText,
    results.Analysis,
    results.Model,
)


@pytest.mark.parametrize(("vector_type", "dtype", "shape"), TENSORS.values(), ids=TENSORS)
def test_tensor(vector_type, dtype, shape):
    """A tensor's bytes come back as the array that was sent, in its type and shape."""
    sent = np.random.default_rng(0).normal(size=shape).astype(dtype)
    array = responses.read_tensor(pb.Tensor(shape=shape, type=vector_type, data=sent.tobytes()))
    assert np.dtype(dtype) == array.dtype
    assert array.dtype.isnative
    np.testing.assert_array_equal(sent, array)


def test_bytes_are_little_endian_and_row_major():
    """The bytes of the wire mean the same on every machine."""
    tensor = pb.Tensor(shape=[2, 1], type=pb.VECTOR_TYPE_FLOAT32, data=bytes.fromhex("0000803f 000000c0"))
    assert responses.read_tensor(tensor).tolist() == [[1.0], [-2.0]]


@pytest.mark.parametrize("tensor", MALFORMED.values(), ids=MALFORMED)
def test_malformed_tensor(tensor):
    """A tensor that contradicts itself is an error, never a wrong array."""
    with pytest.raises(MalformedResponseError, match="a tensor of"):
        responses.read_tensor(tensor)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_records_hold_every_field_of_their_message(record):
    """No field of the API is lost on the way to the caller."""
    fields = {field.name for field in dataclasses.fields(record)}
    assert fields == set(pb.DESCRIPTOR.message_types_by_name[record.__name__].fields_by_name)


def test_embeddings():
    """Embeddings carry arrays and tokens, and stack into a matrix."""
    message = pb.Embedding(
        vectors=pb.Tensor(shape=[2], type=pb.VECTOR_TYPE_FLOAT32, data=np.array([1, 2], "<f4").tobytes()),
        tokens=[pb.Token(text="a", id=7, segment=1, start=2, end=3)],
        token_count=3,
        truncated=True,
    )
    found = responses.read_embeddings(pb.EmbedResponse(embeddings=[message, message]))
    assert len(found) == 2
    assert (results.Token(text="a", id=7, segment=1, start=2, end=3, special=False),) == found[0].tokens
    assert (found[1].token_count, found[1].truncated) == (3, True)
    assert found.matrix.tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_unpooled_embeddings_of_unequal_lengths_have_no_matrix():
    """Token vectors of texts of different lengths do not stack."""
    tensors = [pb.Tensor(shape=[rows, 1], type=pb.VECTOR_TYPE_FLOAT16, data=bytes(2 * rows)) for rows in (1, 2)]
    found = responses.read_embeddings(pb.EmbedResponse(embeddings=[pb.Embedding(vectors=part) for part in tensors]))
    with pytest.raises(ValueError, match="same shape"):
        _ = found.matrix


def test_filled_text():
    """Masks hold their predictions and targets in the server's order."""
    prediction, target = (pb.TokenPrediction(token=word) for word in ("##a", "b"))
    mask = pb.MaskPrediction(token_index=4, segment=1, start=2, end=8, predictions=[prediction], targets=[target])
    (found,) = responses.read_filled_texts(pb.FillMaskResponse(results=[pb.FilledText(masks=[mask], token_count=9)]))
    assert (
        found.masks[0].token_index,
        found.masks[0].segment,
        found.masks[0].start,
        found.masks[0].end,
    ) == (4, 1, 2, 8)
    assert (
        [p.token for p in found.masks[0].predictions],
        [t.token for t in found.masks[0].targets],
    ) == (["##a"], ["b"])


def test_classifications():
    """Labels keep the server's order, best first."""
    labels = [pb.LabelScore(label="good", index=1, probability=0.75, logit=2, score=0.5), pb.LabelScore(label="bad")]
    (found,) = responses.read_classifications(pb.ClassifyResponse(results=[pb.Classification(labels=labels)]))
    assert [label.label for label in found.labels] == ["good", "bad"]
    assert found.labels[0] == results.LabelScore(label="good", index=1, probability=0.75, logit=2.0, score=0.5)


def test_tagged_texts():
    """Tokens with their labels, entities with their words."""
    message = pb.TaggedText(
        tokens=[pb.TaggedToken(token=pb.Token(text="ada"), label=pb.LabelScore(label="B-PER", index=1))],
        entities=[pb.Entity(label="PER", probability=0.5, segment=1, start=2, end=5, text="ada")],
        truncated=True,
    )
    (found,) = responses.read_tagged_texts(pb.TagTokensResponse(results=[message]))
    assert [(tagged.token.text, tagged.label.label) for tagged in found.tokens] == [("ada", "B-PER")]
    entity = results.Entity(label="PER", probability=0.5, segment=1, start=2, end=5, text="ada")
    assert (found.entities, found.truncated) == ((entity,), True)
    (analysis,) = responses.read_analyses(pb.AnalyzeResponse(analyses=[pb.Analysis(tags=message)]))
    assert analysis.tags == found
    assert analysis.truncated


def test_analysis_holds_only_what_was_asked():
    """An output that was not asked for is None, not empty."""
    analysis = pb.Analysis(next_sentence=pb.NextSentenceScore(probability=0.5))
    (found,) = responses.read_analyses(pb.AnalyzeResponse(analyses=[analysis]))
    assert found.next_sentence is not None
    assert found.next_sentence.probability == 0.5
    assert (found.embedding, found.fill_mask, found.classification, found.tags) == (None, None, None, None)


def test_timings_are_seconds():
    """Durations become seconds, nanoseconds included."""
    timings = pb.Timings(tokenize=Duration(nanos=1_500_000), infer=Duration(seconds=2, nanos=250_000_000))
    found = responses.read_tokenized_texts(pb.TokenizeResponse(info=pb.ResponseInfo(model="m", timings=timings))).info
    expected = results.Timings(tokenize_seconds=0.0015, queue_seconds=0.0, infer_seconds=2.25, finish_seconds=0.0)
    assert ("m", expected) == (found.model, found.timings)


def test_model_speaks_in_names():
    """Enums become the words of the client's own arguments; a newer server's head keeps its number."""
    model = pb.Model(heads=[pb.HEAD_MASKED_LM, 99], default_pooling=pb.POOLING_CLS, accuracy={"cosine": 0.5})
    found = responses.read_model(pb.GetModelResponse(model=model))
    assert found.heads == ("masked_lm", "unknown_99")
    assert found.default_pooling == "cls"
    assert found.accuracy == {"cosine": 0.5}


def test_results_are_a_sequence():
    """Results are counted, indexed, sliced and looped over."""
    found = results.Results(("a", "b", "c"), responses.read_embeddings(pb.EmbedResponse()).info)
    assert (len(found), found[1], found[1:], list(found)) == (3, "b", ("b", "c"), ["a", "b", "c"])
