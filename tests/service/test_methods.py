"""What each method answers, over real gRPC, on tiny bundles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from servers import RunningServer

HIDDEN, LAYERS = 32, 2

FIRST, SECOND = "calculus is a [MASK] of math", "it [MASK] developed by newton and leibniz"


def array(tensor: pb.Tensor) -> np.ndarray:
    dtype = {pb.VECTOR_TYPE_FLOAT32: "<f4", pb.VECTOR_TYPE_FLOAT16: "<f2"}[tensor.type]
    return np.frombuffer(tensor.data, dtype=dtype).reshape(tuple(tensor.shape))


def embed(stub: pb_grpc.BertServiceStub, text: str = "the cat sat", **options: object) -> pb.Embedding:
    request = pb.EmbedRequest(inputs=[pb.TextInput(text=text)], options=pb.EmbedOptions(**options))
    (embedding,) = stub.Embed(request, timeout=30).embeddings
    return embedding


def vectors(stub: pb_grpc.BertServiceStub, **options: object) -> np.ndarray:
    return array(embed(stub, **options).vectors)


POOLED = {
    "mean": (pb.POOLING_MEAN, lambda tokens: tokens.mean(axis=0)),
    "max": (pb.POOLING_MAX, lambda tokens: tokens.max(axis=0)),
    "cls": (pb.POOLING_CLS, lambda tokens: tokens[0]),
}


@pytest.mark.parametrize(("pooling", "expected"), POOLED.values(), ids=POOLED.keys())
def test_pooling_is_of_the_token_vectors(stub: pb_grpc.BertServiceStub, pooling: int, expected: object) -> None:
    """Mean and maximum count special tokens, as sentence-transformers does; CLS is the first row."""
    tokens = vectors(stub, pooling=pb.POOLING_NONE)
    assert tokens.shape == (5, HIDDEN)
    np.testing.assert_allclose(vectors(stub, pooling=pooling), expected(tokens), rtol=1e-6, atol=1e-6)  # type: ignore[operator]


def test_unspecified_pooling_is_the_models_default(stub: pb_grpc.BertServiceStub) -> None:
    """What GetModel calls the default is what an open Embed gets."""
    default = stub.GetModel(pb.GetModelRequest(), timeout=30).model.default_pooling
    np.testing.assert_array_equal(vectors(stub), vectors(stub, pooling=default))


def test_pooler_is_bounded_by_its_tanh(stub: pb_grpc.BertServiceStub) -> None:
    """The pooler's vector is another than the CLS vector, within −1 … 1."""
    pooled = vectors(stub, pooling=pb.POOLING_POOLER)
    assert pooled.shape == (HIDDEN,)
    assert np.abs(pooled).max() < 1
    assert not np.allclose(pooled, vectors(stub, pooling=pb.POOLING_CLS))


def test_negative_layers_count_from_the_last(stub: pb_grpc.BertServiceStub) -> None:
    """−1 is the last layer, −(N + 1) the embedding layer."""
    for positive, negative in ((LAYERS, -1), (1, -2), (0, -(LAYERS + 1))):
        one, other = (vectors(stub, layers=[layer], pooling=pb.POOLING_NONE) for layer in (positive, negative))
        np.testing.assert_array_equal(one, other)


MERGED = {
    "concat": (pb.LAYER_MERGE_CONCAT, lambda layers: np.concatenate(layers, axis=-1)),
    "sum": (pb.LAYER_MERGE_SUM, lambda layers: np.sum(layers, axis=0)),
    "mean": (pb.LAYER_MERGE_MEAN, lambda layers: np.mean(layers, axis=0)),
}


@pytest.mark.parametrize(("merge", "expected"), MERGED.values(), ids=MERGED.keys())
def test_layers_are_merged_in_the_order_asked(stub: pb_grpc.BertServiceStub, merge: int, expected: object) -> None:
    """Layers 2 and 0, in that order, from one call equal those of two calls."""
    order = [2, 0]
    single = [vectors(stub, layers=[layer], pooling=pb.POOLING_NONE) for layer in order]
    merged = vectors(stub, layers=order, layer_merge=merge, pooling=pb.POOLING_NONE)
    np.testing.assert_allclose(merged, expected(single), rtol=1e-6, atol=1e-6)  # type: ignore[operator]


def test_normalized_vectors_have_unit_length(stub: pb_grpc.BertServiceStub) -> None:
    """Each row of an unpooled answer, and the one vector of a pooled one."""
    rows = vectors(stub, pooling=pb.POOLING_NONE, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors(stub, normalize=True)), 1, rtol=1e-6)


def test_half_precision_is_the_same_vector_rounded(stub: pb_grpc.BertServiceStub) -> None:
    """FLOAT16 states its type, and is the nearest half of the FLOAT32 answer."""
    half = embed(stub, vector_type=pb.VECTOR_TYPE_FLOAT16).vectors
    np.testing.assert_array_equal(array(half), vectors(stub).astype(np.float16))


def test_tokens_come_beside_token_vectors(stub: pb_grpc.BertServiceStub) -> None:
    """One token a row, each with its place in the text."""
    text = "The CAT sat"
    embedding = embed(stub, text, pooling=pb.POOLING_NONE, include_tokens=True)
    assert len(embedding.tokens) == embedding.vectors.shape[0] == embedding.token_count
    assert [text[t.start : t.end] for t in embedding.tokens if not t.special] == ["The", "CAT", "sat"]


def test_results_come_in_the_order_of_the_inputs(stub: pb_grpc.BertServiceStub) -> None:
    """Many inputs of many lengths, each equal to its own lone answer, bit for bit."""
    texts = ["the cat " * (1 + n % 7) + str(n) for n in range(40)]
    response = stub.Embed(pb.EmbedRequest(inputs=[pb.TextInput(text=t) for t in texts]), timeout=30)
    for text, embedding in zip(texts, response.embeddings, strict=True):
        assert embedding.vectors.data == embed(stub, text).vectors.data


def test_truncation_keeps_what_fits(stub: pb_grpc.BertServiceStub) -> None:
    """An over-long text is cut to the model's limit and says so."""
    request = pb.EmbedRequest(inputs=[pb.TextInput(text="cat " * 500)], truncation=pb.TRUNCATION_END)
    (embedding,) = stub.Embed(request, timeout=30).embeddings
    assert (embedding.token_count, embedding.truncated) == (128, True)


def fill(stub: pb_grpc.BertServiceStub, *inputs: pb.TextInput, **options: object) -> list[pb.FilledText]:
    request = pb.FillMaskRequest(inputs=inputs, options=pb.FillMaskOptions(**options))
    return list(stub.FillMask(request, timeout=30).results)


def test_masks_are_located_in_the_callers_text(stub: pb_grpc.BertServiceStub) -> None:
    """Every mask of a pair comes with its segment and its place."""
    (result,) = fill(stub, pb.TextInput(text=FIRST, text_pair=SECOND))
    assert [(mask.segment, mask.start, mask.end) for mask in result.masks] == [(0, 14, 20), (1, 3, 9)]


def test_predictions_are_the_likeliest_tokens(stub: pb_grpc.BertServiceStub) -> None:
    """Best first, five unless asked otherwise, probabilities of the whole vocabulary summing to one."""
    (short,), (whole,) = fill(stub, pb.TextInput(text=FIRST)), fill(stub, pb.TextInput(text=FIRST), top_k=535)
    scores = [prediction.log_probability for prediction in whole.masks[0].predictions]
    assert len(short.masks[0].predictions) == 5
    assert scores == sorted(scores, reverse=True)
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)
    assert [p.token_id for p in short.masks[0].predictions] == [p.token_id for p in whole.masks[0].predictions][:5]


def test_targets_are_scored_in_the_order_asked(stub: pb_grpc.BertServiceStub) -> None:
    """A target's score is the one that it has among all predictions; an input's own targets replace the request's."""
    plain, own = pb.TextInput(text=FIRST), pb.TextInput(text=FIRST, targets=["##ing"])
    first, second = fill(stub, plain, own, targets=["math", "Branch"], top_k=535)
    everything = {p.token: p.log_probability for p in first.masks[0].predictions}
    assert [(t.token, t.log_probability) for t in first.masks[0].targets] == [
        ("math", everything["math"]),
        ("branch", everything["branch"]),
    ]
    assert [(t.token, t.text) for t in second.masks[0].targets] == [("##ing", "ing")]


def test_no_predictions_are_returned_for_a_top_k_of_zero(stub: pb_grpc.BertServiceStub) -> None:
    """Zero is a number like any other, not the default."""
    (result,) = fill(stub, pb.TextInput(text=FIRST), top_k=0)
    assert len(result.masks[0].predictions) == 0


def test_next_sentence_probability_is_the_softmax_of_its_logits(stub: pb_grpc.BertServiceStub) -> None:
    """One score per candidate, an empty one included."""
    request = pb.ScoreNextSentenceRequest(first="the cat", candidates=["sat", "", "math"])
    scores = stub.ScoreNextSentence(request, timeout=30).scores
    assert len(scores) == 3
    for score in scores:
        expected = 1 / (1 + np.exp(score.not_next_logit - score.is_next_logit))
        assert score.probability == pytest.approx(expected, rel=1e-5)


def test_candidates_are_scored_independently(stub: pb_grpc.BertServiceStub) -> None:
    """A candidate's score does not depend on the others, bit for bit."""
    together = stub.ScoreNextSentence(
        pb.ScoreNextSentenceRequest(first="the cat", candidates=["sat", "math"]), timeout=30
    )
    alone = stub.ScoreNextSentence(pb.ScoreNextSentenceRequest(first="the cat", candidates=["math"]), timeout=30)
    assert together.scores[1] == alone.scores[0]


def test_labels_come_best_first_and_sum_to_one(stub: pb_grpc.BertServiceStub) -> None:
    """A single-label head's probabilities are a softmax."""
    request = pb.ClassifyRequest(model="classifier", inputs=[pb.TextInput(text="the cat")])
    (result,) = stub.Classify(request, timeout=30).results
    probabilities = [label.probability for label in result.labels]
    assert {label.label for label in result.labels} == {"negative", "positive"}
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


TAGGED = pb.TextInput(text="the old king of the north had two sons", text_pair="a cat")


def tag(stub: pb_grpc.BertServiceStub, given: pb.TextInput, aggregation: int = 0, **fields: Any) -> pb.TaggedText:
    options = pb.TagOptions(aggregation=aggregation)
    request = pb.TagTokensRequest(model="tagger", inputs=[given], options=options, **fields)
    (result,) = stub.TagTokens(request, timeout=30).results
    return result


def test_every_token_of_the_caller_has_one_label(stub: pb_grpc.BertServiceStub) -> None:
    """Tokens are those of Tokenize without the special ones; a label is one of the model's, with its probability."""
    result = tag(stub, TAGGED)
    request = pb.TokenizeRequest(model="tagger", inputs=[TAGGED])
    tokens = stub.Tokenize(request, timeout=30).results[0].tokens
    assert [tagged.token for tagged in result.tokens] == [token for token in tokens if not token.special]
    labels = stub.GetModel(pb.GetModelRequest(model="tagger"), timeout=30).model.labels
    for tagged in result.tokens:
        assert tagged.label.label == labels[tagged.label.index]
        assert 1 / len(labels) < tagged.label.probability <= 1
    assert not result.entities
    assert not result.truncated


def test_entities_stand_in_the_callers_text(stub: pb_grpc.BertServiceStub) -> None:
    """Asked for, they come beside the same tokens; each says what stands at its place, in the text or in the pair."""
    result = tag(stub, TAGGED, pb.AGGREGATION_SIMPLE)
    assert list(result.tokens) == list(tag(stub, TAGGED, pb.AGGREGATION_NONE).tokens)
    assert {entity.segment for entity in result.entities} == {0, 1}
    for entity in result.entities:
        whole = TAGGED.text_pair if entity.segment else TAGGED.text
        assert entity.text == whole[entity.start : entity.end] != ""
        assert entity.label in ("PER", "LOC")


def test_a_truncated_text_is_tagged_in_part(stub: pb_grpc.BertServiceStub) -> None:
    """Of a text cut at its start the last words are labelled, at their own places."""
    words = ["cat"] * 200
    result = tag(stub, pb.TextInput(text=" ".join(words)), pb.AGGREGATION_SIMPLE, truncation=pb.TRUNCATION_START)
    assert result.truncated
    assert len(result.tokens) == 126
    assert result.tokens[-1].token.end == len(" ".join(words))


def test_analyze_tags_as_tag_tokens_does(stub: pb_grpc.BertServiceStub) -> None:
    """Labels and vectors from one pass are those of the single methods."""
    options = pb.AnalyzeOptions(embed=pb.EmbedOptions(), tag_tokens=pb.TagOptions(aggregation=pb.AGGREGATION_SIMPLE))
    request = pb.AnalyzeRequest(model="tagger", inputs=[TAGGED], options=options)
    (analysis,) = stub.Analyze(request, timeout=30).analyses
    assert analysis.tags == tag(stub, TAGGED, pb.AGGREGATION_SIMPLE)
    assert analysis.HasField("embedding")
    options.ClearField("tag_tokens")
    (untagged,) = stub.Analyze(pb.AnalyzeRequest(model="tagger", inputs=[TAGGED], options=options), timeout=30).analyses
    assert not untagged.HasField("tags")


def test_analyze_answers_all_from_one_pass(server: RunningServer, stub: pb_grpc.BertServiceStub) -> None:
    """The seed example: embedding, both masks and the pair's score are those of the single methods, and every token
    ran once."""
    pair = pb.TextInput(text=FIRST, text_pair=SECOND)
    options = pb.AnalyzeOptions(embed=pb.EmbedOptions(), fill_mask=pb.FillMaskOptions(), next_sentence=True)
    counters = [
        f'bertserve_{name}{{model="pretraining"}}' for name in ("tokens_total", "batch_items_sum", "batch_items_count")
    ]
    before = [server.sample(counter) for counter in counters]
    (analysis,) = stub.Analyze(pb.AnalyzeRequest(inputs=[pair], options=options), timeout=30).analyses
    ran = [server.sample(counter) - start for counter, start in zip(counters, before, strict=True)]
    assert ran == [analysis.embedding.token_count, 1, 1]
    assert analysis.embedding == stub.Embed(pb.EmbedRequest(inputs=[pair]), timeout=30).embeddings[0]
    assert analysis.fill_mask == fill(stub, pair)[0]
    request = pb.ScoreNextSentenceRequest(first=FIRST, candidates=[SECOND])
    assert analysis.next_sentence == stub.ScoreNextSentence(request, timeout=30).scores[0]
    assert not analysis.HasField("classification")


def test_tokenize_runs_no_model(server: RunningServer, stub: pb_grpc.BertServiceStub) -> None:
    """Tokens as the model would see them, and not one of them run."""
    before = server.sample('bertserve_tokens_total{model="pretraining"}')
    request = pb.TokenizeRequest(inputs=[pb.TextInput(text="the cat", text_pair="sat")])
    (result,) = stub.Tokenize(request, timeout=30).results
    assert [token.text for token in result.tokens] == ["[CLS]", "the", "cat", "[SEP]", "sat", "[SEP]"]
    assert [token.segment for token in result.tokens if not token.special] == [0, 0, 1]
    assert server.sample('bertserve_tokens_total{model="pretraining"}') == before


def test_models_are_listed_in_the_order_given(stub: pb_grpc.BertServiceStub) -> None:
    """The first one is what an empty name means."""
    models = stub.ListModels(pb.ListModelsRequest(), timeout=30).models
    assert [model.name for model in models] == ["pretraining", "classifier", "plain", "tagger"]
    assert stub.GetModel(pb.GetModelRequest(), timeout=30).model == models[0]


def test_model_states_its_facts_and_accuracy(stub: pb_grpc.BertServiceStub) -> None:
    """Heads, sizes, limits and the agreement measured at export."""
    model = stub.GetModel(pb.GetModelRequest(model="classifier"), timeout=30).model
    assert pb.HEAD_SEQUENCE_CLASSIFICATION in model.heads
    assert pb.HEAD_MASKED_LM not in model.heads
    assert list(model.labels) == ["negative", "positive"]
    assert (model.hidden_size, model.layer_count, model.max_tokens, model.precision) == (HIDDEN, LAYERS, 128, "fp32")
    assert (model.max_inputs, model.max_characters, model.max_top_k) == (1024, 65_536, 535)
    assert model.accuracy["token_cosine_min"] >= 0.99999


def test_every_answer_names_its_bundle_and_times(stub: pb_grpc.BertServiceStub) -> None:
    """ResponseInfo holds the bundle's id, and stages that took time."""
    info = stub.Embed(pb.EmbedRequest(model="plain", inputs=[pb.TextInput(text="cat")]), timeout=30).info
    assert info.model == "plain"
    assert info.bundle_id == stub.GetModel(pb.GetModelRequest(model="plain"), timeout=30).model.bundle_id
    assert info.timings.infer.nanos > 0
