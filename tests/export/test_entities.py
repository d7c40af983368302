"""Labels and entities over gRPC are those of `transformers`' token-classification pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bertapi.client import BertClient
from bertserve.bundle import ModelFacts, read_bundle
from bertserve.engine.items import Float32s
from bertserve.tasks.answers import Entity
from bertserve.tasks.entities import group_entities
from bertserve.tasks.finish import tag_tokens
from bertserve.tokenizer import Text, Tokenizer, Truncation
from checkpoints import write_checkpoint
from make_bundles import CHECKPOINTS
from servers import TAGGER, RunningServer

pytestmark = pytest.mark.export

TEXTS = [
    "The old king of the NORTH had two sons, and they were called Henry and John.",
    "été in Zürich: 东京 and \U0001f600 newton-leibniz  (twice)",
    "unknowable\tunfriendliness\u00a0calculus",
    "a",
    "...",
    "[MASK] sat on the [MASK]",
    "the cat sat on the mat and " * 15,
]
# Labels in the scheme of the pipeline, in others, and in none.
SCHEMES = [
    ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    ("PER", "LOC", "O", "I-PER", "B-LOC"),
    ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4"),
    ("O", "S-PER", "B-PER", "E-PER", "B-first-name"),
    ("B-O", "I-O", "-", "e-mail", "B-"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tagger") / "tagger", **CHECKPOINTS["tagger"])


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path) -> Any:
    model = transformers.BertForTokenClassification.from_pretrained(checkpoint, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    return transformers.TokenClassificationPipeline(model=model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[BertClient]:
    with BertClient(server.target, model="tagger") as client:
        yield client


@pytest.mark.parametrize("text", TEXTS)
def test_labels_are_the_pipelines(text: str, client: BertClient, pipeline: Any) -> None:
    """Token by token, the ones outside of entities too."""
    (found,) = client.tag_tokens(text)
    expected = pipeline(text, aggregation_strategy="none", ignore_labels=[])
    assert [(tagged.label.label, tagged.token.start, tagged.token.end) for tagged in found.tokens] == [
        (token["entity"], token["start"], token["end"]) for token in expected
    ]
    scores = [tagged.label.probability for tagged in found.tokens]
    np.testing.assert_allclose(scores, [token["score"] for token in expected], atol=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_entities_are_the_pipelines(text: str, client: BertClient, pipeline: Any) -> None:
    """By kind and place, and with the same probability."""
    (found,) = client.tag_tokens(text, aggregation="simple")
    expected = pipeline(text, aggregation_strategy="simple")
    assert [(entity.label, entity.start, entity.end) for entity in found.entities] == [
        (entity["entity_group"], entity["start"], entity["end"]) for entity in expected
    ]
    assert [entity.text for entity in found.entities] == [text[entity.start : entity.end] for entity in found.entities]
    scores = [entity.probability for entity in found.entities]
    np.testing.assert_allclose(scores, [entity["score"] for entity in expected], atol=1e-5)


@pytest.mark.parametrize("labels", SCHEMES, ids=" ".join)
def test_any_sequence_of_labels_is_grouped_as_the_pipeline_does(labels: tuple[str, ...], pipeline: Any) -> None:
    """A hundred random sequences for every way of naming labels."""
    rng = np.random.default_rng(5)
    facts = read_bundle(TAGGER).model.model_copy(update={"labels": labels})
    for trial in range(100):
        text = TEXTS[trial % len(TEXTS)]
        assert_grouped_alike(text, facts, pipeline, rng)


def assert_grouped_alike(text: str, facts: ModelFacts, pipeline: Any, rng: np.random.Generator) -> None:
    (tokenized,) = Tokenizer(TAGGER / "tokenizer.json", facts).tokenize([Text(text=text)], Truncation.ERROR)
    logits = rng.normal(0, 3, (len(tokenized), len(facts.labels))).astype(np.float32)
    found = group_entities(tag_tokens(facts, tokenized.tokens, logits), Text(text=text))
    expected = group_as_pipeline(text, facts, logits, pipeline)
    assert [(entity.label, entity.start, entity.end) for entity in found] == [
        (entity["entity_group"], entity["start"], entity["end"]) for entity in expected
    ]
    assert_same_probabilities(found, expected)


def assert_same_probabilities(found: tuple[Entity, ...], expected: list[dict[str, Any]]) -> None:
    scores = [entity.probability for entity in found]
    np.testing.assert_allclose(scores, [entity["score"] for entity in expected], atol=1e-6)


def group_as_pipeline(text: str, facts: ModelFacts, logits: Float32s, pipeline: Any) -> list[dict[str, Any]]:
    """What the pipeline makes of these logits; it asks its model for the names of labels."""
    named = pipeline.model.config.id2label
    pipeline.model.config.id2label = dict(enumerate(facts.labels))
    try:
        (inputs,) = pipeline.preprocess(text, is_split_into_words=False)
        outputs = {**inputs, "logits": torch.from_numpy(logits)[None]}
        return list(pipeline.postprocess([outputs], aggregation_strategy=pipeline_strategy("simple")))
    finally:
        pipeline.model.config.id2label = named


def pipeline_strategy(name: str) -> Any:
    from transformers.pipelines.token_classification import AggregationStrategy

    return AggregationStrategy(name)
