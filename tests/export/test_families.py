"""The families besides BERT: what a bundle computes equals what their own classes compute, for every head they have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bertserve.bundle import Bundle, Head, ProblemType
from bertserve.engine.contract import Engine
from bertserve.engine.golden import relative_difference
from bertserve.engine.items import Item, ItemOutputs, Wanted
from bertserve.engine.opening import open_engine
from checkpoints import read_tensors, write_tensors
from family_checkpoints import SAMPLES, write_family_checkpoint

from .conftest import Describe, Export

pytestmark = pytest.mark.export

GATE = 1e-4
LENGTHS = (1, 2, 7, 7, 33, 64)
FAMILIES = tuple(SAMPLES)
BOTH = ("masked_lm", "sequence_classification")
OUTPUTS = {
    "masked_lm": "target_log_probabilities",
    "sequence_classification": "class_logits",
    "token_classification": "tag_logits",
}

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta, padding elsewhere": ("roberta", {"pad_token_id": 5, "max_position_embeddings": 70}),
    "roberta, two token types": ("roberta", {"type_vocab_size": 2}),
    "roberta, another activation than its head's": ("roberta", {"hidden_act": "relu"}),
    "xlm-roberta, larger epsilon": ("xlm-roberta", {"layer_norm_eps": 1e-3}),
    "distilbert, another activation": ("distilbert", {"activation": "relu"}),
    "electra, one size": ("electra", {"embedding_size": 32}),
    "electra, another activation than its heads'": ("electra", {"hidden_act": "gelu_new"}),
    "electra, a narrow generator": ("electra", {"embedding_size": 48, "hidden_size": 16, "num_attention_heads": 1}),
}

PROBLEMS: dict[str, tuple[dict[str, Any], ProblemType]] = {
    "single label": ({"labels": 3}, ProblemType.SINGLE_LABEL),
    "many labels at once": ({"labels": 4, "problem_type": "multi_label_classification"}, ProblemType.MULTI_LABEL),
    "one label": ({"labels": 1}, ProblemType.MULTI_LABEL),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_head_equals_pytorch(family: str, tmp_path: Path, export: Export) -> None:
    """Every layer, the whole masked-word distribution and the label scores lie within the gate."""
    check_equality(write_family_checkpoint(tmp_path / "checkpoint", family, BOTH), export)


@pytest.mark.parametrize("family", FAMILIES)
def test_token_labels_equal_pytorch(family: str, tmp_path: Path, export: Export) -> None:
    """A classifier of tokens is told from one of texts by its tensors, and gives a score a label for every token."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", family, ["token_classification"], architectures=None)
    bundle = check_equality(checkpoint, export, heads=("token_classification",))
    assert bundle.model.heads == (Head.EMBEDDING, Head.TOKEN_CLASSIFICATION)


@pytest.mark.parametrize(("family", "config"), SHAPES.values(), ids=SHAPES.keys())
def test_settings_come_from_the_checkpoint(family: str, config: dict[str, Any], tmp_path: Path, export: Export) -> None:
    """Padding, segments, activations, epsilon and sizes are those that config.json states."""
    check_equality(write_family_checkpoint(tmp_path / "checkpoint", family, BOTH, **config), export)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert"])
def test_a_pooler_is_served_where_the_checkpoint_has_one(family: str, tmp_path: Path, export: Export) -> None:
    """As the published checkpoints of these families do; the verdict compares it with the base model's."""
    bundle = export(write_family_checkpoint(tmp_path / "checkpoint", family, ("masked_lm", "pooler")))
    assert bundle.model.heads == (Head.EMBEDDING, Head.POOLER, Head.MASKED_LM)
    assert bundle.manifest.accuracy["pooler_max_relative_difference"] <= GATE


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_without_heads_or_prefix(family: str, tmp_path: Path, export: Export) -> None:
    """A base model saved alone gives embeddings and no other head."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", family, ())
    tensors = read_tensors(checkpoint)
    bare = {name.split(".", 1)[1]: tensor for name, tensor in tensors.items()}
    write_tensors(checkpoint, bare)
    heads = export(checkpoint).model.heads
    assert heads == ((Head.EMBEDDING, Head.POOLER) if "rob" in family or "cam" in family else (Head.EMBEDDING,))


@pytest.mark.parametrize(("options", "problem_type"), PROBLEMS.values(), ids=PROBLEMS.keys())
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_classification(
    family: str, options: dict[str, Any], problem_type: ProblemType, tmp_path: Path, export: Export
) -> None:
    """Labels, several at a time and a number: as many logits as labels, agreeing with PyTorch's."""
    bundle = export(write_family_checkpoint(tmp_path / "checkpoint", family, ["sequence_classification"], **options))
    assert (len(bundle.model.labels), bundle.model.problem_type) == (options["labels"], problem_type)
    assert bundle.manifest.accuracy["classification_max_relative_difference"] <= GATE


def test_roberta_positions_begin_after_the_padding(tmp_path: Path, describe: Describe) -> None:
    """Two rows of the position table are never used, so that the longest input is that much shorter."""
    model = describe(write_family_checkpoint(tmp_path / "checkpoint", "roberta")).facts
    assert (model.position_offset, model.position_limit, model.max_tokens, model.segment_count) == (2, 130, 128, 1)


def test_a_padding_token_in_a_text_counts_for_nothing(tmp_path: Path, export: Export) -> None:
    """Literal padding gets the position that RoBERTa gives it, and so do the tokens behind it."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", "roberta", BOTH)
    bundle = export(checkpoint)
    item = draw_item(np.array([0, 9, 1, 1, 30, 4, 1, 2]), bundle.model.layer_count)
    compare(open_engine(bundle, threads=1), checkpoint, [item])


def test_a_discriminators_own_head_is_left_out_and_noted(tmp_path: Path, describe: Describe) -> None:
    """Whether a token was replaced is nothing that a method answers; the encoder is served."""
    source = describe(write_family_checkpoint(tmp_path / "checkpoint", "electra", ["discriminator"]))
    assert source.facts.heads == (Head.EMBEDDING,)
    assert any("discriminator_predictions.dense.bias" in note for note in source.notes)


@pytest.mark.parametrize("options", [{"form": "shards"}, {"form": "pickle"}, {}], ids=["shards", "pickle", "plain"])
@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra"])
def test_the_form_of_the_weights_does_not_change_the_bundle(
    family: str, options: dict[str, Any], tmp_path: Path, export: Export
) -> None:
    """However the same tensors lie on disk, the graph is the same, byte for byte."""
    plain = export(write_family_checkpoint(tmp_path / "plain", family), tmp_path / "plain.bundle")
    other = export(write_family_checkpoint(tmp_path / "other", family, **options), tmp_path / "other.bundle")
    assert other.manifest.files["model.onnx"] == plain.manifest.files["model.onnx"]


def test_bfloat16_is_widened(tmp_path: Path, export: Export) -> None:
    """numpy knows no bfloat16; what is stored so is computed with as float32, as PyTorch is told to."""
    check_equality(write_family_checkpoint(tmp_path / "checkpoint", "roberta", BOTH, dtype="bfloat16"), export)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_untied_decoder_is_decoded_with_its_own_weights(family: str, tmp_path: Path, export: Export) -> None:
    """A decoder that differs from the word table is kept apart, with its own bias."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", family, BOTH, tie_word_embeddings=False)
    check_equality(checkpoint, export)


def check_equality(checkpoint: Path, export: Export, heads: tuple[str, ...] = BOTH) -> Bundle:
    bundle = export(checkpoint)
    engine = open_engine(bundle, threads=1)
    rng, model = np.random.default_rng(1), bundle.model
    padding = model.position_offset - 1
    drawn = [rng.integers(0, model.vocabulary_size, length) for length in LENGTHS]
    items = [draw_item(np.where(ids == padding, 0, ids), model.layer_count, heads) for ids in drawn]
    compare(engine, checkpoint, items, heads)
    return bundle


def draw_item(input_ids: np.ndarray, layer_count: int, heads: tuple[str, ...] = BOTH) -> Item:
    wanted = Wanted(
        layers=tuple(range(layer_count + 1)),
        mask_positions=tuple(range(0, len(input_ids), 3)) if "masked_lm" in heads else (),
        target_ids=tuple(range(0, 300, 7)),
        top_k=5,
        classify="sequence_classification" in heads,
        tag="token_classification" in heads,
    )
    return Item(input_ids=input_ids, token_type_ids=np.zeros_like(input_ids), wanted=wanted)


def compare(engine: Engine, checkpoint: Path, items: list[Item], heads: tuple[str, ...] = BOTH) -> None:
    family = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["model_type"]
    for head in heads:
        model = getattr(transformers, SAMPLES[family].classes[head]).from_pretrained(
            checkpoint, attn_implementation="eager", dtype=torch.float32
        )
        for item, outputs in zip(items, engine.run_items(items), strict=True):
            check_outputs(model.eval(), head, item, outputs)


def check_outputs(model: Any, head: str, item: Item, outputs: ItemOutputs) -> None:
    with torch.inference_mode():
        expected = model(input_ids=torch.from_numpy(item.input_ids)[None], output_hidden_states=True)
    for layer, states in enumerate(expected.hidden_states):
        assert relative_difference(outputs.layers[layer], states[0].numpy()) <= GATE, (layer, item.length)
    logits = expected.logits[0]
    if head == "masked_lm":
        logits = logits[list(item.wanted.mask_positions)].log_softmax(-1)[:, list(item.wanted.target_ids)]
    assert relative_difference(getattr(outputs, OUTPUTS[head]), logits.numpy()) <= GATE, (head, item.length)
