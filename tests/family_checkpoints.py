"""Tiny random checkpoints of the families besides BERT, each with a tokenizer of its own kind, trained here.

Names and shapes of tensors are those of `transformers`' own classes; the values are drawn, biases and LayerNorms too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import CLASSIFIERS, VOCABULARY, WORDS, write_tensors

SENTENCES = [" ".join(WORDS[start : start + 12]) for start in range(len(WORDS))]
# Byte-level vocabularies know every byte; a sentencepiece model knows what its corpus holds.
CORPUS = [*SENTENCES, "été naïve Zürich 東京 привет مرحبا 1234567890 !\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"]

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}
ROBERTA_SHAPE = {**SHAPE, "max_position_embeddings": 130, "type_vocab_size": 1, "layer_norm_eps": 1e-5}


@dataclass(frozen=True, kw_only=True)
class FamilySample:
    """config: of config.json. classes: head → the class of `transformers` that has it; "" the base model."""

    config: dict[str, Any]
    classes: dict[str, str]
    tokenizer: str


def _classes(start: str, **others: str) -> dict[str, str]:
    return {
        "": f"{start}Model",
        "masked_lm": f"{start}ForMaskedLM",
        "sequence_classification": f"{start}ForSequenceClassification",
        "token_classification": f"{start}ForTokenClassification",
        **others,
    }


SAMPLES = {
    "roberta": FamilySample(
        config=ROBERTA_SHAPE,
        classes=_classes("Roberta", pooler="RobertaModel"),
        tokenizer="byte-level",
    ),
    "xlm-roberta": FamilySample(
        config=ROBERTA_SHAPE,
        classes=_classes("XLMRoberta", pooler="XLMRobertaModel"),
        tokenizer="sentencepiece",
    ),
    "camembert": FamilySample(
        config=ROBERTA_SHAPE,
        classes=_classes("Camembert", pooler="CamembertModel"),
        tokenizer="sentencepiece",
    ),
    "distilbert": FamilySample(
        config={"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 128},
        classes=_classes("DistilBert"),
        tokenizer="vocab.txt",
    ),
    "electra": FamilySample(
        config={**SHAPE, "embedding_size": 20},
        classes=_classes("Electra", discriminator="ElectraForPreTraining"),
        tokenizer="vocab.txt",
    ),
}


def write_family_checkpoint(
    directory: Path,
    family: str,
    heads: Iterable[str] = ("masked_lm",),
    *,
    labels: int = 3,
    form: str = "safetensors",
    dtype: str = "float32",
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a checkpoint with the heads asked: pooler, masked_lm, ELECTRA's discriminator, and either
    sequence_classification or token_classification.

    form: as for `write_checkpoint`; dtype: bfloat16 too. config: entries of config.json beside or instead of the
    sample's; None removes one.
    """
    sample, heads = SAMPLES[family], tuple(heads)
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary_size = write_family_tokenizer(directory, sample.tokenizer)
    settings = {
        "model_type": family,
        "architectures": [sample.classes[heads[0] if heads else ""]],
        "vocab_size": vocabulary_size,
        "pad_token_id": 0 if sample.tokenizer == "vocab.txt" else 1,
        **sample.config,
        **({"id2label": {str(n): f"label {n}" for n in range(labels)}} if CLASSIFIERS & set(heads) else {}),
        **config,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    tensors = draw_family_tensors(family, settings, heads, seed)
    write_tensors(directory, tensors, form, dtype)
    return directory


def draw_family_tensors(
    family: str, settings: dict[str, Any], heads: tuple[str, ...], seed: int
) -> dict[str, np.ndarray]:
    """float32 tensors for what `transformers`' classes with these heads hold, tied ones once."""
    import transformers

    config = transformers.AutoConfig.for_model(**settings)
    shapes: dict[str, tuple[int, ...]] = {}
    for head in heads or ("",):
        model = getattr(transformers, SAMPLES[family].classes[head])(config)
        tied = model.all_tied_weights_keys if config.tie_word_embeddings else {}
        prefix = f"{model.base_model_prefix}." if model.base_model is model else ""
        shapes |= {
            prefix + name: tuple(tensor.shape)
            for name, tensor in model.state_dict().items()
            if tensor.is_floating_point() and name not in tied
        }
    return {name: _draw(name, shape, seed) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    is_norm_weight = len(shape) == 1 and name.endswith("weight")
    scale = 0.3 if "embeddings." in name else shape[-1] ** -0.5 if len(shape) > 1 else 0.1
    return rng.normal(1 if is_norm_weight else 0, scale, shape).astype(np.float32)


def write_family_tokenizer(directory: Path, kind: str) -> int:
    """Write the files that a checkpoint of old has, and no tokenizer.json; the vocabulary's size."""
    match kind:
        case "byte-level":
            return _write_byte_level(directory)
        case "sentencepiece":
            return _write_sentence_piece(directory)
        case "vocab.txt":
            (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
            return len(VOCABULARY)
    raise ValueError(kind)


def _write_byte_level(directory: Path) -> int:
    """vocab.json and merges.txt, with RoBERTa's special tokens in its order."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        CORPUS, 700, min_frequency=2, show_progress=False, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    tokenizer.save_model(str(directory))
    return tokenizer.get_vocab_size()


def _write_sentence_piece(directory: Path) -> int:
    """sentencepiece.bpe.model, a unigram model in spite of its name; two more entries than ids are needed."""
    import sentencepiece

    with (directory / "sentencepiece.bpe.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_writer=file, vocab_size=500, minloglevel=2, hard_vocab_limit=False
        )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / "sentencepiece.bpe.model"))
    return int(processor.vocab_size()) + 8
