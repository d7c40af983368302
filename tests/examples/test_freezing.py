"""Which parameters learn, and when."""

from __future__ import annotations

import pytest
from freezing import Freezing, count_learning, freeze
from transformers import BertConfig, BertForSequenceClassification

pytestmark = pytest.mark.export

LAYERS = 3
EVERYTHING = {"embeddings", "layer 0", "layer 1", "layer 2", "pooler", "classifier"}
HEAD = {"pooler", "classifier"}

LEARNING = {
    "by default everything": (Freezing(), [EVERYTHING] * 3),
    "the embeddings alone frozen": (Freezing(freeze_layers=0), [EVERYTHING - {"embeddings"}] * 2),
    "two layers frozen": (Freezing(freeze_layers=2), [HEAD | {"layer 2"}] * 3),
    "gradual": (
        Freezing(gradual=True),
        [
            HEAD,
            HEAD | {"layer 2"},
            HEAD | {"layer 2", "layer 1"},
            HEAD | {"layer 2", "layer 1", "layer 0"},
            EVERYTHING,
            EVERYTHING,
        ],
    ),
    "gradual above a frozen layer": (
        Freezing(gradual=True, freeze_layers=1),
        [HEAD, HEAD | {"layer 2"}, HEAD | {"layer 2", "layer 1"}, HEAD | {"layer 2", "layer 1"}]
        + [HEAD | {"layer 2", "layer 1"}] * 2,
    ),
}


@pytest.fixture(scope="module")
def model() -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=16
    )
    return BertForSequenceClassification(config)


@pytest.mark.parametrize(("freezing", "epochs"), LEARNING.values(), ids=LEARNING.keys())
def test_parts_that_learn(model: BertForSequenceClassification, freezing: Freezing, epochs: list[set[str]]) -> None:
    """Epoch by epoch, exactly the named parts learn."""
    for epoch, expected in enumerate(epochs):
        freeze(model, freezing.frozen_layers(epoch, LAYERS))
        learning = {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
        frozen = {part_of(name) for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert learning == expected
        assert frozen == EVERYTHING - expected


def test_counts_what_learns(model: BertForSequenceClassification) -> None:
    """With all layers frozen: a pooler of 8 x 8 + 8 and a classifier of 2 x 8 + 2."""
    freeze(model, LAYERS)
    assert count_learning(model) == 72 + 18


def part_of(name: str) -> str:
    parts = name.removeprefix("bert.").split(".")
    return f"layer {parts[2]}" if parts[0] == "encoder" else parts[0]
