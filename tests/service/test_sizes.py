"""How much an answer holds, counted before anything runs; and what doors make of the counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bertserve.bundle import Pooling, read_bundle
from bertserve.doors.grpc.sizes import MessageSizes, TensorSizes
from bertserve.engine.opening import open_engine
from bertserve.errors import InvalidInput
from bertserve.models import ServedModel
from bertserve.tasks.asks import Aggregation, Ask, EmbedAsk, FillMaskAsk, LayerMerge, TagAsk, VectorType
from bertserve.tasks.limits import Limits
from bertserve.tasks.prepare import prepare, tokenize_inputs
from bertserve.tasks.sizes import Counts, count_tokens
from bertserve.tokenizer import Text, Tokenizer
from servers import CLASSIFIER, PRETRAINING, TAGGER

LIMITS = Limits(max_inputs=100, max_characters=10_000, max_top_k=100, max_response_bytes=10_000_000)

# Five tokens with [CLS] and [SEP], and four.
TEXTS = (Text(text="the [MASK] sat"), Text(text="a cat"))


class NotedSizes:
    """A door's size model: notes the counts, and finds every answer as large as it is told."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.counts = Counts()

    def answer_bytes(self, counts: Counts) -> int:
        self.counts = counts
        return self.size


@pytest.fixture(scope="module")
def models() -> dict[str, ServedModel]:
    return {path.name: _load(path) for path in (PRETRAINING, CLASSIFIER, TAGGER)}


def _load(path: Path) -> ServedModel:
    bundle = read_bundle(path)
    tokenizer = Tokenizer(bundle.tokenizer_path, bundle.model)
    return ServedModel(name=path.name, bundle=bundle, tokenizer=tokenizer, engine=open_engine(bundle, 1), golden=())


def count(model: ServedModel, **ask: object) -> Counts:
    """Return the counts of an answer for TEXTS."""
    whole, sizes = Ask(inputs=TEXTS, **ask), NotedSizes()
    prepare(model, whole, tokenize_inputs(model, whole, 0, len(TEXTS)), LIMITS, sizes)
    return sizes.counts


@pytest.mark.parametrize(
    ("embed", "float32_rows", "float16_rows"),
    [
        (EmbedAsk(pooling=Pooling.MEAN), 2, 0),
        (EmbedAsk(pooling=Pooling.NONE), 9, 0),
        (EmbedAsk(pooling=Pooling.NONE, layers=(0, 1)), 18, 0),
        (EmbedAsk(pooling=Pooling.NONE, layers=(0, 1), layer_merge=LayerMerge.SUM), 9, 0),
        (EmbedAsk(pooling=Pooling.MEAN, vector_type=VectorType.FLOAT16), 0, 2),
    ],
)
def test_vectors_count_their_elements(
    models: dict[str, ServedModel], embed: EmbedAsk, float32_rows: int, float16_rows: int
) -> None:
    """Pooling, layers and type decide how many there are."""
    model = models["pretraining"]
    width = model.facts.hidden_size
    assert count(model, embed=embed) == Counts(inputs=2, float32s=float32_rows * width, float16s=float16_rows * width)


def test_tokens_beside_vectors_count_with_their_texts(models: dict[str, ServedModel]) -> None:
    model = models["pretraining"]
    counts = count(model, embed=EmbedAsk(pooling=Pooling.CLS, include_tokens=True))
    assert counts.tokens == 9
    assert counts.text_bytes == 9 * model.tokenizer.longest_token_bytes


def test_masks_count_their_predictions_and_targets(models: dict[str, ServedModel]) -> None:
    """Each prediction is two strings: the token, and the text that a person would write."""
    model = models["pretraining"]
    counts = count(model, fill_mask=FillMaskAsk(top_k=3, targets=("cat", "dog"), optional=True))
    longest = model.tokenizer.longest_token_bytes
    assert counts == Counts(inputs=2, masks=1, most_masks=1, predictions=5, text_bytes=10 * longest)


def test_labels_count_once_for_each_input(models: dict[str, ServedModel]) -> None:
    model = models["classifier"]
    labels = model.facts.labels
    names = sum(len(label.encode()) for label in labels)
    assert count(model, classify=True) == Counts(inputs=2, labels=2 * len(labels), text_bytes=2 * names)


def test_tags_count_a_label_for_each_token_and_an_entity_if_asked(models: dict[str, ServedModel]) -> None:
    """Entities repeat the caller's text, which no vocabulary bounds."""
    model = models["tagger"]
    longest = max(len(label.encode()) for label in model.facts.labels)
    plain = count(model, tag_tokens=TagAsk())
    tokens = plain.tokens
    tags_bytes = tokens * (model.tokenizer.longest_token_bytes + longest)
    assert plain == Counts(inputs=2, tokens=tokens, labels=tokens, text_bytes=tags_bytes)
    text_bytes = sum(len(text.text) for text in TEXTS)
    grouped = count(model, tag_tokens=TagAsk(aggregation=Aggregation.SIMPLE))
    assert grouped == plain._replace(entities=tokens, text_bytes=tags_bytes + tokens * longest + text_bytes)


def test_the_door_says_how_large_an_answer_is(models: dict[str, ServedModel]) -> None:
    """Its encoding decides, not the counts."""
    ask = Ask(inputs=TEXTS, embed=EmbedAsk())
    model = models["pretraining"]
    texts = tokenize_inputs(model, ask, 0, len(TEXTS))
    assert prepare(model, ask, texts, replace(LIMITS, max_response_bytes=77), NotedSizes(77)).response_bytes == 77
    with pytest.raises(InvalidInput, match="could take 78 bytes, the server sends 77"):
        prepare(model, ask, texts, replace(LIMITS, max_response_bytes=77), NotedSizes(78))


def test_messages_grow_with_every_count(models: dict[str, ServedModel]) -> None:
    """A part that took nothing would not be bounded. Only the most masks of an input are no part of a message."""
    empty = MessageSizes().answer_bytes(Counts())
    free = [name for name in Counts._fields if MessageSizes().answer_bytes(Counts(**{name: 1})) == empty]
    assert free == ["most_masks"]
    tokens = count_tokens(models["tagger"], inputs=1, tokens=3)
    assert MessageSizes().answer_bytes(tokens) > empty + tokens.text_bytes


def test_tensors_have_room_for_as_many_masks_at_every_input() -> None:
    """Six masks of five predictions each, for three inputs of which one has two masks."""
    counts = Counts(inputs=3, masks=3, most_masks=2, predictions=15)
    padded = counts._replace(masks=6, predictions=30)
    assert TensorSizes().answer_bytes(counts) == MessageSizes().answer_bytes(padded)
