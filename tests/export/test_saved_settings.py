"""Settings and names that checkpoints were saved with, and that change nothing of what they compute."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from bertexport.encoders.architecture import read_architecture, select_weights
from bertexport.proof.reference import ReferenceOutputs, load_reference
from bertexport.source.checkpoint import read_checkpoint
from bertexport.source.labels import note_labels
from bertserve.bundle import Head
from bertserve.engine.items import Item, Wanted
from checkpoints import read_tensors, write_checkpoint, write_tensors
from family_checkpoints import SAMPLES, write_family_checkpoint

from .conftest import Export

pytestmark = pytest.mark.export


# What a checkpoint may have been saved with that changes the form of PyTorch's answers, how they are computed, or
# training, and no value.
FORMAL_ENTRIES: dict[str, dict[str, Any]] = {
    "plain tuples": {"return_dict": False},
    "chunked layers": {"chunk_size_feed_forward": 2},
    "attentions": {"output_attentions": True, "output_hidden_states": True},
    "another attention": {"attn_implementation": "flash_attention_2", "_attn_implementation": "sdpa"},
    "another type": {"dtype": "float16", "torch_dtype": "no type"},
    "training": {
        "gradient_checkpointing": True,
        "hidden_dropout_prob": None,
        "attention_probs_dropout_prob": 0.5,
        "classifier_dropout": "0.1",
        "initializer_range": None,
    },
    "other forms": {"torchscript": True, "use_cache": False, "is_encoder_decoder": True, "pruned_heads": {}},
    "one label called a class": {"problem_type": "single_label_classification", "labels": ("only",)},
    "nulls and other programs' tokens": {
        "num_labels": None,
        "bos_token_id": "x",
        "eos_token_id": {},
        "sep_token_id": 3,
    },
    "another last layer": {"tie_last_hidden_states": False},
}


def run_reference(checkpoint: Path) -> ReferenceOutputs:
    read = read_checkpoint(checkpoint)
    architecture = read_architecture(read)
    reference = load_reference(checkpoint, select_weights(read, architecture), architecture.heads)
    ids = np.arange(5, 22)
    return reference.run(Item(input_ids=ids, token_type_ids=np.zeros_like(ids), wanted=Wanted()))


@pytest.mark.parametrize("entries", FORMAL_ENTRIES.values(), ids=FORMAL_ENTRIES.keys())
def test_settings_of_form_and_training_change_no_value_of_the_reference(
    entries: dict[str, Any], tmp_path: Path
) -> None:
    """PyTorch gives the same, bit for bit, whatever config.json says of the form of its answers or of training."""
    labels = entries.get("labels", ("no", "yes"))
    heads = ["sequence_classification"]
    plain = run_reference(write_checkpoint(tmp_path / "plain", heads, labels=labels))
    entries = {name: value for name, value in entries.items() if name != "labels"}
    checkpoint = write_checkpoint(tmp_path / "other", heads, labels=labels)
    edit_config(checkpoint, **entries)
    other = run_reference(checkpoint)
    head = Head.SEQUENCE_CLASSIFICATION
    np.testing.assert_array_equal(other.results[head], plain.results[head])
    np.testing.assert_array_equal(other.layers, plain.layers)


@pytest.mark.parametrize("family", SAMPLES)
def test_every_familys_reference_ignores_settings_of_form(family: str, tmp_path: Path) -> None:
    """All of those settings at once, in the classes of each family."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", family)
    plain = run_reference(checkpoint)
    for entries in FORMAL_ENTRIES.values():
        edit_config(checkpoint, **{name: value for name, value in entries.items() if name != "labels"})
    edit_config(checkpoint, dropout=None, attention_dropout="x", seq_classif_dropout=None, summary_last_dropout=None)
    np.testing.assert_array_equal(run_reference(checkpoint).layers, plain.layers)


def rename_tensor(checkpoint: Path, old: str, new: str) -> None:
    tensors = read_tensors(checkpoint)
    write_tensors(checkpoint, {new if name == old else name: tensor for name, tensor in tensors.items()})


@pytest.mark.parametrize("family", ["bert", *SAMPLES])
def test_tied_tensors_may_lie_under_either_name(family: str, tmp_path: Path) -> None:
    """A file keeps one name of tensors that share memory: the table's or the decoder's, the head's or the decoder's."""
    write = write_checkpoint if family == "bert" else partial(write_family_checkpoint, family=family)
    checkpoint = write(tmp_path / "checkpoint", heads=("masked_lm",))
    read = read_checkpoint(checkpoint)
    weights = select_weights(read, read_architecture(read))
    unused, tensors = weights.unused, dict(weights.tensors)
    expected, moved = run_reference(checkpoint), set()
    for decoders, twins in read.family.stand_ins.items():
        stored = next((name for name in read_tensors(checkpoint) if name.endswith(twins)), None)
        if stored is not None:
            rename_tensor(checkpoint, stored, decoders)
            moved.add(decoders)
    assert moved == set(read.family.stand_ins)
    again = read_checkpoint(checkpoint)
    other = select_weights(again, read_architecture(again))
    assert other.unused == unused
    assert set(other.tensors) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(other.tensors[name], tensor, err_msg=name)
    np.testing.assert_array_equal(run_reference(checkpoint).layers, expected.layers)
    head = Head.MASKED_LM
    np.testing.assert_array_equal(run_reference(checkpoint).results[head], expected.results[head])


def test_a_table_under_the_decoders_name_exports_to_the_same_graph(tmp_path: Path, export: Export) -> None:
    """Bundle and verification follow, byte for byte."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", "roberta")
    plain = export(checkpoint, tmp_path / "plain.bundle")
    rename_tensor(checkpoint, "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight")
    other = export(checkpoint, tmp_path / "other.bundle")
    assert other.manifest.bundle_id == plain.manifest.bundle_id


def test_a_table_under_the_decoders_name_serves_other_heads(tmp_path: Path) -> None:
    """The tokenizer's want of a mask takes the masked-LM head away, and not the word table."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", "roberta")
    expected = run_reference(checkpoint)
    rename_tensor(checkpoint, "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight")
    read = read_checkpoint(checkpoint)
    architecture = replace(read_architecture(read), heads=(Head.EMBEDDING,))
    reference = load_reference(checkpoint, select_weights(read, architecture), architecture.heads)
    ids = np.arange(5, 22)
    layers = reference.run(Item(input_ids=ids, token_type_ids=np.zeros_like(ids), wanted=Wanted())).layers
    np.testing.assert_array_equal(layers, expected.layers)


@pytest.mark.parametrize("architectures", [None, ["BertModel"], ["BertForQuestionAnswering"]], ids=str)
def test_without_a_model_type_a_checkpoint_is_berts(
    architectures: list[str] | None, tmp_path: Path, export: Export
) -> None:
    """The oldest files have none; the tokenizer built from vocab.txt is BERT's, too."""
    checkpoint = write_checkpoint(
        tmp_path / "checkpoint", ["pooler"], tokenizer="vocab.txt", model_type=None, architectures=architectures
    )
    (checkpoint / "tokenizer_config.json").unlink()
    bundle = export(checkpoint)
    assert bundle.model.family == "bert"
    tokenizer = tokenizers.Tokenizer.from_file(str(bundle.tokenizer_path))
    expected = transformers.BertTokenizer.from_pretrained(checkpoint)("The cat SAT on été", "a mat").input_ids
    assert tokenizer.encode("The cat SAT on été", "a mat").ids == expected


@pytest.mark.parametrize("family", SAMPLES)
def test_without_a_model_type_the_class_names_the_family(family: str, tmp_path: Path) -> None:
    """A class of RoBERTa is not read as BERT."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", family)
    expected = run_reference(checkpoint)
    edit_config(checkpoint, model_type=None)
    assert read_checkpoint(checkpoint).family.name == family
    np.testing.assert_array_equal(run_reference(checkpoint).layers, expected.layers)


@pytest.mark.parametrize(
    ("entries", "note"),
    [
        (
            {"num_labels": 3, "id2label": {"0": "a", "1": "b"}},
            r"names 2 labels in id2label, but num_labels is 3: labels are called LABEL_0, LABEL_1, LABEL_2",
        ),
        ({"num_labels": 3, "id2label": None}, None),
        ({"num_labels": 3, "id2label": None, "label2id": {"a": 0, "b": 1, "c": 2}}, "label2id alone"),
        ({"num_labels": 3}, None),
    ],
    ids=["a stale map", "a number alone", "label2id alone", "both agree"],
)
def test_labels_are_named_as_transformers_names_them(entries: dict[str, Any], note: str | None, tmp_path: Path) -> None:
    """Where `num_labels` and the maps disagree, the number decides, and names that are not used are noted."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ["token_classification"], labels=("x", "y", "z"))
    edit_config(checkpoint, **{"label2id": None, "id2label": {"0": "x", "1": "y", "2": "z"}, **entries})
    labels = read_architecture(read_checkpoint(checkpoint)).labels
    named = transformers.AutoConfig.from_pretrained(checkpoint).id2label
    assert labels == tuple(named[index] for index in range(3))
    notes = note_labels(json.loads((checkpoint / "config.json").read_text(encoding="utf-8")), labels)
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_a_stale_label_map_is_noted_in_the_report(tmp_path: Path, export: Export) -> None:
    """The bundle's labels are the numbered ones; the reference has as many outputs as the checkpoint."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ["sequence_classification"], labels=("x", "y", "z"))
    edit_config(checkpoint, num_labels=3, id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    bundle = export(checkpoint)
    assert bundle.model.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert "names 2 labels in id2label, but num_labels is 3" in (bundle.path / "REPORT.md").read_text(encoding="utf-8")


def edit_config(checkpoint: Path, **entries: object) -> None:
    """Set entries of config.json; None becomes null, but takes `model_type` and the maps of labels away."""
    path = checkpoint / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **entries}
    missing = [name for name in ("model_type", "id2label", "label2id") if config.get(name) is None]
    path.write_text(json.dumps({n: v for n, v in config.items() if n not in missing}), encoding="utf-8")
