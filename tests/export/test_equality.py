"""What a bundle computes equals what PyTorch computes, for tiny random BERTs of many shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bertserve.engine.contract import Engine
from bertserve.engine.golden import relative_difference
from bertserve.engine.items import Item, ItemOutputs, Wanted
from bertserve.engine.opening import open_engine
from checkpoints import write_checkpoint

from .conftest import ALL_HEADS, Export

pytestmark = pytest.mark.export

GATE = 1e-4
LENGTHS = (1, 2, 3, 7, 7, 16, 16, 33, 64)

SHAPES: dict[str, dict[str, Any]] = {
    "gelu": {},
    "one layer, one head, odd widths, relu": {
        "num_hidden_layers": 1,
        "hidden_size": 27,
        "num_attention_heads": 1,
        "intermediate_size": 37,
        "hidden_act": "relu",
    },
    "three heads, gelu_new, larger vocabulary, larger epsilon": {
        "hidden_size": 48,
        "num_attention_heads": 3,
        "hidden_act": "gelu_new",
        "vocab_size": 901,
        "layer_norm_eps": 1e-5,
    },
    "deep and narrow, silu": {
        "num_hidden_layers": 6,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_act": "silu",
    },
    "gelu_pytorch_tanh, no segments": {"hidden_act": "gelu_pytorch_tanh", "type_vocab_size": 1},
    "wide heads, tanh, few positions": {
        "hidden_size": 64,
        "num_attention_heads": 1,
        "hidden_act": "tanh",
        "max_position_embeddings": 64,
    },
}


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_every_output_equals_pytorch(config: dict[str, Any], tmp_path: Path, export: Export) -> None:
    """Every layer, the pooler, the whole masked-word distribution, and both kinds of logits lie within the gate."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ALL_HEADS, **config)
    engine = open_engine(export(checkpoint), threads=1)
    items = draw_items(engine)
    for item, outputs, expected in zip(items, engine.run_items(items), run_pytorch(checkpoint, items), strict=True):
        for name, values in flatten(outputs).items():
            assert relative_difference(values, expected[name]) <= GATE, (name, item.length)


def test_an_untied_decoder_is_decoded_with_its_own_weights(tmp_path: Path, export: Export) -> None:
    """A decoder that differs from the word table is kept apart, with its own bias."""
    from checkpoints import read_tensors, write_tensors

    checkpoint = write_checkpoint(tmp_path / "checkpoint", ALL_HEADS, tie_word_embeddings=False)
    tensors = read_tensors(checkpoint)
    words, bias = tensors["bert.embeddings.word_embeddings.weight"], tensors["cls.predictions.bias"]
    tensors |= {"cls.predictions.decoder.weight": words[::-1].copy(), "cls.predictions.decoder.bias": bias[::-1].copy()}
    write_tensors(checkpoint, tensors)
    engine = open_engine(export(checkpoint), threads=1)
    items = draw_items(engine)[:3]
    for outputs, expected in zip(engine.run_items(items), run_pytorch(checkpoint, items), strict=True):
        assert relative_difference(outputs.target_log_probabilities, expected["target_log_probabilities"]) <= GATE


def draw_items(engine: Engine) -> list[Item]:
    """Random tokens of many lengths, two of them shared; each wants everything."""
    rng, model = np.random.default_rng(1), engine.bundle.model
    return [
        Item(
            input_ids=rng.integers(0, model.vocabulary_size, length),
            token_type_ids=rng.integers(0, model.segment_count, length),
            wanted=Wanted(
                layers=tuple(range(model.layer_count + 1)),
                pooler=True,
                mask_positions=tuple(range(0, length, 3)),
                target_ids=tuple(range(model.vocabulary_size)),
                top_k=5,
                next_sentence=True,
                classify=True,
            ),
        )
        for length in LENGTHS
    ]


def run_pytorch(checkpoint: Path, items: list[Item]) -> list[dict[str, np.ndarray]]:
    """The same outputs from `transformers`, one input at a time."""
    options = {"attn_implementation": "eager", "dtype": torch.float32}
    pretraining = transformers.BertForPreTraining.from_pretrained(checkpoint, **options).eval()
    classifier = transformers.BertForSequenceClassification.from_pretrained(checkpoint, **options).eval()
    expected = []
    for item in items:
        feeds = {
            "input_ids": torch.from_numpy(item.input_ids)[None],
            "token_type_ids": torch.from_numpy(item.token_type_ids)[None],
        }
        with torch.inference_mode():
            outputs = pretraining(**feeds, output_hidden_states=True)
            base = pretraining.bert(**feeds)
            class_logits = classifier(**feeds).logits[0]
        masks = outputs.prediction_logits[0, list(item.wanted.mask_positions)].log_softmax(-1)
        expected.append(
            {
                **{f"layer_{index}": states[0].numpy() for index, states in enumerate(outputs.hidden_states)},
                "pooled": base.pooler_output[0].numpy(),
                "target_log_probabilities": masks.numpy(),
                "mask_top_log_probabilities": masks.topk(5).values.numpy(),
                "next_sentence_logits": outputs.seq_relationship_logits[0].numpy(),
                "class_logits": class_logits.numpy(),
            }
        )
    return expected


def flatten(outputs: ItemOutputs) -> dict[str, np.ndarray]:
    return {
        **{f"layer_{layer}": values for layer, values in outputs.layers.items()},
        "pooled": outputs.pooled,
        "target_log_probabilities": outputs.target_log_probabilities,
        "mask_top_log_probabilities": outputs.mask_top_log_probabilities,
        "next_sentence_logits": outputs.next_sentence_logits,
        "class_logits": outputs.class_logits,
    }
