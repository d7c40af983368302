"""Checkpoints as they really come: old names, missing prefixes, pickles, shards, half precision, side files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from bertserve.bundle import TOKENIZER_NAME, Bundle, Head, Pooling, ProblemType
from bertserve.engine.items import Item, Wanted
from bertserve.engine.opening import open_engine
from checkpoints import read_tensors, write_checkpoint, write_tensors

from .conftest import Describe, Export

pytestmark = pytest.mark.export

PRETRAINED = (Head.EMBEDDING, Head.POOLER, Head.MASKED_LM, Head.NEXT_SENTENCE)

SAME_TENSORS: dict[str, dict[str, Any]] = {
    "gamma and beta": {"legacy_names": True},
    "shards": {"form": "shards"},
    "pickle": {"form": "pickle"},
    "pickle with gamma and beta": {"form": "pickle", "legacy_names": True},
    "vocab.txt": {"tokenizer": "vocab.txt"},
}

HEADS: dict[str, tuple[dict[str, Any], tuple[Head, ...]]] = {
    "encoder alone": ({"heads": ()}, (Head.EMBEDDING,)),
    "encoder without prefix": ({"heads": (), "prefix": False}, (Head.EMBEDDING,)),
    "pooler without prefix": ({"heads": ["pooler"], "prefix": False}, (Head.EMBEDDING, Head.POOLER)),
    "masked words": ({"heads": ["masked_lm"]}, (Head.EMBEDDING, Head.MASKED_LM)),
    "next sentence": ({"heads": ["next_sentence"]}, (Head.EMBEDDING, Head.POOLER, Head.NEXT_SENTENCE)),
    "both": ({}, PRETRAINED),
    "classes": (
        {"heads": ["sequence_classification"]},
        (Head.EMBEDDING, Head.POOLER, Head.SEQUENCE_CLASSIFICATION),
    ),
    "token labels": ({"heads": ["token_classification"]}, (Head.EMBEDDING, Head.TOKEN_CLASSIFICATION)),
    "a classifier whose class says nothing": (
        {"heads": ["token_classification"], "architectures": ["BertModel"]},
        (Head.EMBEDDING, Head.TOKEN_CLASSIFICATION),
    ),
    "a classifier and a pooler whose class says nothing": (
        {"heads": ["sequence_classification"], "architectures": None},
        (Head.EMBEDDING, Head.POOLER, Head.SEQUENCE_CLASSIFICATION),
    ),
    "token labels beside an idle pooler": (
        {"heads": ["token_classification", "pooler"]},
        (Head.EMBEDDING, Head.POOLER, Head.TOKEN_CLASSIFICATION),
    ),
    "a classifier that compares choices": (
        {"heads": ["sequence_classification"], "labels": ("",), "architectures": ["BertForMultipleChoice"]},
        (Head.EMBEDDING, Head.POOLER),
    ),
    "masked words and a pooler": (
        {"heads": ["masked_lm", "pooler"]},
        (Head.EMBEDDING, Head.POOLER, Head.MASKED_LM),
    ),
}

PROBLEMS: dict[str, tuple[dict[str, Any], ProblemType]] = {
    "two labels": ({"labels": ("no", "yes")}, ProblemType.SINGLE_LABEL),
    "one label": ({"labels": ("score",)}, ProblemType.MULTI_LABEL),
    "many labels at once": (
        {"labels": ("a", "b", "c"), "problem_type": "multi_label_classification"},
        ProblemType.MULTI_LABEL,
    ),
    "stated": ({"labels": ("x", "y"), "problem_type": "regression"}, ProblemType.REGRESSION),
}


def last_hidden(bundle: Bundle) -> np.ndarray:
    layer = bundle.model.layer_count
    item = Item(
        input_ids=np.arange(40, 57), token_type_ids=np.zeros(17, dtype=np.int64), wanted=Wanted(layers=(layer,))
    )
    return open_engine(bundle, threads=1).run_items([item])[0].layers[layer]


def test_the_hubs_bert_base_uncased_exports_with_all_its_heads(tmp_path: Path, export: Export) -> None:
    """It calls itself BertForMaskedLM, has a next-sentence head, gamma and beta, position_ids, and the bert. prefix."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", legacy_names=True, architectures=["BertForMaskedLM"])
    tensors = read_tensors(checkpoint)
    tensors["bert.embeddings.position_ids"] = np.arange(128)[None]
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
    write_tensors(checkpoint, tensors)
    bundle = export(checkpoint)
    assert bundle.model.heads == PRETRAINED
    assert bundle.manifest.source.architecture == "BertForMaskedLM"
    assert bundle.manifest.accuracy["next_sentence_agreement"] == 1


@pytest.mark.parametrize("options", SAME_TENSORS.values(), ids=SAME_TENSORS.keys())
def test_the_form_of_a_checkpoint_does_not_change_the_bundle(
    options: dict[str, Any], tmp_path: Path, export: Export
) -> None:
    """However the same tensors lie on disk, the graph is the same, byte for byte."""
    plain = export(write_checkpoint(tmp_path / "plain"), tmp_path / "plain.bundle")
    other = export(write_checkpoint(tmp_path / "other", **options), tmp_path / "other.bundle")
    assert other.manifest.files["model.onnx"] == plain.manifest.files["model.onnx"]
    assert other.model.heads == PRETRAINED


@pytest.mark.parametrize(("options", "heads"), HEADS.values(), ids=HEADS.keys())
def test_heads_are_those_whose_tensors_are_there(
    options: dict[str, Any], heads: tuple[Head, ...], tmp_path: Path, describe: Describe
) -> None:
    """Whatever class config.json names, the bundle has the heads that the checkpoint holds."""
    assert describe(write_checkpoint(tmp_path / "checkpoint", **options)).facts.heads == heads


@pytest.mark.slow
@pytest.mark.parametrize(("options", "heads"), HEADS.values(), ids=HEADS.keys())
def test_every_set_of_heads_is_exported(
    options: dict[str, Any], heads: tuple[Head, ...], tmp_path: Path, export: Export
) -> None:
    """PyTorch loads each of them for the comparison, and the bundle passes it."""
    assert export(write_checkpoint(tmp_path / "checkpoint", **options)).model.heads == heads


def test_names_without_the_prefix_give_the_same_encoder(tmp_path: Path, export: Export) -> None:
    """A base model saved alone computes what it computed inside the model with heads."""
    plain = export(write_checkpoint(tmp_path / "plain", heads=["pooler"], prefix=False), tmp_path / "plain.bundle")
    prefixed = export(write_checkpoint(tmp_path / "prefixed", heads=["pooler"]), tmp_path / "prefixed.bundle")
    np.testing.assert_array_equal(last_hidden(plain), last_hidden(prefixed))


def test_half_precision_is_widened(tmp_path: Path, export: Export) -> None:
    """Weights stored as float16 are computed with as float32, as PyTorch is told to."""
    bundle = export(write_checkpoint(tmp_path / "checkpoint", dtype=np.float16))
    assert last_hidden(bundle).dtype == np.float32
    assert bundle.manifest.accuracy["hidden_max_relative_difference"] <= 1e-5


@pytest.mark.parametrize(("options", "problem_type"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_labels_and_what_they_mean_come_from_the_settings(
    options: dict[str, Any], problem_type: ProblemType, tmp_path: Path, describe: Describe
) -> None:
    """The label map names the outputs in order; the problem type says how to read them."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", heads=["sequence_classification"], **options)
    model = describe(checkpoint).facts
    assert (model.labels, model.problem_type) == (options["labels"], problem_type)


def test_labels_without_names_are_numbered(tmp_path: Path, describe: Describe) -> None:
    """Where config.json has no label map, labels are called as transformers calls them."""
    checkpoint = write_checkpoint(
        tmp_path / "checkpoint", heads=["sequence_classification"], id2label=None, label2id=None
    )
    assert describe(checkpoint).facts.labels == ("LABEL_0", "LABEL_1")


def test_a_head_that_is_not_supported_is_left_out_and_noted(tmp_path: Path, export: Export) -> None:
    """Spans of answers, for instance: the bundle goes without them, and the report says so."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", heads=["masked_lm"])
    tensors = read_tensors(checkpoint)
    tensors |= {"qa_outputs.weight": np.zeros((2, 32), np.float32), "qa_outputs.bias": np.zeros(2, np.float32)}
    write_tensors(checkpoint, tensors)
    bundle = export(checkpoint)
    assert bundle.model.heads == (Head.EMBEDDING, Head.MASKED_LM)
    assert "qa_outputs.bias, qa_outputs.weight" in (bundle.path / "REPORT.md").read_text(encoding="utf-8")


def test_token_labels_come_from_the_settings(tmp_path: Path, describe: Describe) -> None:
    """They are named in order, and have no problem type: a token has one label."""
    labels = ("O", "B-PER", "I-PER")
    model = describe(write_checkpoint(tmp_path / "checkpoint", heads=["token_classification"], labels=labels)).facts
    assert (model.labels, model.problem_type) == (labels, None)


def test_without_a_mask_token_the_masked_lm_head_is_left_out_and_noted(tmp_path: Path, export: Export) -> None:
    """No text could ever ask for it; everything else is served."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (checkpoint / name).read_text(encoding="utf-8")
        (checkpoint / name).write_text(text.replace("[MASK]", "[NONE]"), encoding="utf-8")
    bundle = export(checkpoint)
    assert bundle.model.heads == (Head.EMBEDDING, Head.POOLER, Head.NEXT_SENTENCE)
    assert "Left out the head masked_lm" in (bundle.path / "REPORT.md").read_text(encoding="utf-8")


def test_an_own_decoder_reads_the_bias_under_its_old_name(tmp_path: Path, export: Export) -> None:
    """A decoder that is not the word table, its bias stored as cls.predictions.bias alone, counts with that bias."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tie_word_embeddings=False)
    tensors = read_tensors(checkpoint)
    decoder = tensors["bert.embeddings.word_embeddings.weight"][::-1].copy()
    write_tensors(checkpoint, {**tensors, "cls.predictions.decoder.weight": decoder})
    implied = export(checkpoint, tmp_path / "implied.bundle")
    bias = tensors["cls.predictions.bias"]
    named = {"cls.predictions.decoder.weight": decoder, "cls.predictions.decoder.bias": bias.copy()}
    write_tensors(checkpoint, {**tensors, **named})
    stated = export(checkpoint, tmp_path / "stated.bundle")
    assert implied.manifest.files["model.onnx"] == stated.manifest.files["model.onnx"]


def test_truncation_and_padding_are_taken_out_of_the_tokenizer(tmp_path: Path, describe: Describe) -> None:
    """A checkpoint's tokenizer.json cuts at 16 tokens and fills up to them; the bundle's does neither."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    hidden = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    assert hidden["truncation"]
    assert hidden["padding"]
    describe(checkpoint)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "described" / TOKENIZER_NAME))
    assert len(tokenizer.encode("one").ids) == 3
    assert len(tokenizer.encode("one " * 50).ids) == 52


@pytest.mark.parametrize("lower_case", [True, False])
def test_a_vocabulary_file_tokenizes_as_in_transformers(lower_case: bool, tmp_path: Path, describe: Describe) -> None:
    """Casing is a setting beside vocab.txt, and it is kept."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tokenizer="vocab.txt")
    settings = {"do_lower_case": lower_case, "tokenizer_class": "BertTokenizer"}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    expected = transformers.AutoTokenizer.from_pretrained(checkpoint)("The cat SAT on été", "a mat").input_ids
    describe(checkpoint)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "described" / TOKENIZER_NAME))
    assert tokenizer.encode("The cat SAT on été", "a mat").ids == expected


@pytest.mark.parametrize("folder", ["", "0_Transformer"])
@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, Pooling.CLS),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, Pooling.MEAN),
        ({"pooling_mode": "max"}, Pooling.MAX),
    ],
    ids=["cls", "mean", "max by name"],
)
def test_a_sentence_transformers_folder_states_its_pooling(
    folder: str, pooling: dict[str, object], expected: Pooling, tmp_path: Path, describe: Describe
) -> None:
    """Pooling, normalization and the longest input come from the files beside the weights."""
    root = tmp_path / "checkpoint"
    write_checkpoint(root / folder, heads=["pooler"], prefix=False)
    write_sentence_files(root, folder, pooling, normalize=True)
    model = describe(root).facts
    assert (model.default_pooling, model.default_normalize, model.max_tokens) == (expected, True, 48)


def test_an_ordinary_checkpoint_is_pooled_by_the_mean(tmp_path: Path, describe: Describe) -> None:
    """Without side files: mean, not normalized, and inputs as long as there are positions."""
    model = describe(write_checkpoint(tmp_path / "checkpoint")).facts
    assert (model.default_pooling, model.default_normalize, model.max_tokens) == (Pooling.MEAN, False, 128)


def test_a_sentence_transformers_folder_says_what_it_does_to_texts(tmp_path: Path, export: Export) -> None:
    """Lower-casing before a cased tokenizer is done; a prompt, which depends on the caller's intent, is noted."""
    root = write_checkpoint(tmp_path / "checkpoint", heads=["pooler"])
    write_sentence_files(root, "", {"pooling_mode": "mean"}, normalize=True, lowercase=True)
    prompts = {"prompts": {"query": "ask: ", "document": ""}, "default_prompt_name": "query"}
    (root / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    cased = (root / "tokenizer.json").read_text(encoding="utf-8").replace('"lowercase": true', '"lowercase": false')
    (root / "tokenizer.json").write_text(cased, encoding="utf-8")
    bundle = export(root)
    tokenizer = tokenizers.Tokenizer.from_file(str(bundle.tokenizer_path))
    assert tokenizer.encode("The CAT [MASK]").ids == tokenizer.encode("the cat [MASK]").ids
    assert tokenizer.token_to_id("[UNK]") not in tokenizer.encode("The CAT [MASK]").ids
    assert "callers write themselves: 'ask: '." in (bundle.path / "REPORT.md").read_text(encoding="utf-8")


def test_code_of_a_checkpoints_own_is_not_run_and_noted(tmp_path: Path, describe: Describe) -> None:
    """It might compute something else of the same tensors, so whoever reads the report should know."""
    source = describe(write_checkpoint(tmp_path / "checkpoint", auto_map={"AutoModel": "modeling.OwnBert"}))
    assert any("names code of its own (auto_map)" in note for note in source.notes)


def write_sentence_files(
    root: Path, folder: str, pooling: dict[str, object], *, normalize: bool, lowercase: bool = False
) -> None:
    kinds = [("Transformer", folder), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] if normalize else [])]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(kinds)
    ]
    (root / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (root / "1_Pooling").mkdir()
    (root / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    limit = {"max_seq_length": 48, "do_lower_case": lowercase}
    (root / folder / "sentence_bert_config.json").write_text(json.dumps(limit), encoding="utf-8")
