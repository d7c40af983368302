"""What cannot become a bundle is refused in one line that names the fault, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bertexport.encoders.architecture import read_architecture, select_weights
from bertexport.errors import ExportError, explain_unexpected
from bertexport.export import export_checkpoint
from bertexport.graph.precision.registry import PRECISIONS
from bertexport.proof.gates import Gate
from bertexport.proof.reference import load_reference
from bertexport.request import ExportRequest
from bertexport.source.checkpoint import read_checkpoint
from bertexport.source.weight_files import PickleFile, SafetensorsFile, WeightFile
from bertserve.bundle import BundleError, Head
from bertserve.engine.items import Item, Wanted
from checkpoints import read_tensors, write_checkpoint, write_tensors
from family_checkpoints import write_family_checkpoint

from .conftest import Export

pytestmark = pytest.mark.export


def edit_config(**changes: object) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        path = checkpoint / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")

    return damage


def edit_tensor(name: str, edit: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        tensors = read_tensors(checkpoint)
        edited = edit(tensors.pop(name))
        write_tensors(checkpoint, tensors if edited is None else {**tensors, name: edited})

    return damage


def put_nan(tensor: np.ndarray) -> np.ndarray:
    tensor = tensor.copy()
    tensor.flat[3] = np.nan
    return tensor


def remove(name: str) -> Callable[[Path], None]:
    return lambda checkpoint: (checkpoint / name).unlink()


def overwrite(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda checkpoint: (checkpoint / name).write_bytes(content)


def cut_in_half(name: str) -> Callable[[Path], object]:
    return lambda checkpoint: (checkpoint / name).write_bytes(
        (checkpoint / name).read_bytes()[: (checkpoint / name).stat().st_size // 2]
    )


def name_modules(*kinds: str) -> Callable[[Path], object]:
    modules = [{"path": "", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    return lambda checkpoint: (checkpoint / "modules.json").write_text(json.dumps(modules), encoding="utf-8")


def duplicate_names(checkpoint: Path) -> None:
    tensors = read_tensors(checkpoint)
    tensors["bert.embeddings.LayerNorm.gamma"] = tensors["bert.embeddings.LayerNorm.weight"]
    write_tensors(checkpoint, tensors)


def remove_pooler(checkpoint: Path) -> None:
    tensors = read_tensors(checkpoint)
    write_tensors(checkpoint, {name: tensor for name, tensor in tensors.items() if "pooler" not in name})


def put_table_into_decoder(checkpoint: Path) -> None:
    """As if tied, in a checkpoint that says that it is not."""
    tensors = read_tensors(checkpoint)
    tensors["cls.predictions.decoder.weight"] = tensors.pop("bert.embeddings.word_embeddings.weight")
    write_tensors(checkpoint, tensors)
    edit_config(tie_word_embeddings=False)(checkpoint)


QUERY = "bert.encoder.layer.1.attention.self.query.weight"

DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    **{
        f"the family {name}": (
            edit_config(model_type=name),
            f"family is '{name}' .*supported: bert, camembert, distilbert, electra, roberta, xlm-roberta",
        )
        for name in ("albert", "deberta-v2", "gpt2", "modernbert", "mpnet", "t5")
    },
    "no config.json": (remove("config.json"), "config.json is missing"),
    "config.json is no JSON": (overwrite("config.json", b"{,"), "config.json cannot be read as JSON"),
    "config.json is a list": (overwrite("config.json", b"[]"), "config.json holds no JSON object"),
    "no weights": (remove("model.safetensors"), "holds no weights; looked for model.safetensors"),
    "half of the weights": (cut_in_half("model.safetensors"), "model.safetensors is not a whole safetensors file"),
    "weights that Git LFS has not fetched": (
        overwrite("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        r"model\.safetensors is a pointer that Git LFS has not replaced",
    ),
    "no tokenizer": (
        remove("tokenizer.json"),
        "holds no tokenizer; looked for tokenizer.json, vocab.txt, vocab.json, sentencepiece.bpe.model",
    ),
    "tokenizer is no tokenizer": (overwrite("tokenizer.json", b"{}"), "tokenizer.json is not a tokenizer"),
    "a tensor missing": (edit_tensor(QUERY, lambda _: None), r"lacks tensors: encoder\.layer\.1.*query\.weight"),
    "a head's tensor missing": (
        edit_tensor("cls.predictions.transform.dense.bias", lambda _: None),
        "lacks tensors: cls.predictions.transform.dense.bias",
    ),
    "NaN": (edit_tensor(QUERY, put_nan), r"encoder\.layer\.1.*query\.weight holds NaN or infinite"),
    "infinity": (edit_tensor(QUERY, lambda t: t + np.float32(np.inf)), "holds NaN or infinite"),
    "another shape": (
        edit_tensor(QUERY, lambda t: t[:-1]),
        r"query\.weight is \[31, 32\], by config.json .*\[32, 32\]",
    ),
    "more layers than tensors": (edit_config(num_hidden_layers=3), r"lacks tensors: encoder\.layer\.2.* and \d+ more"),
    "layers without end": (edit_config(num_hidden_layers=10**30), "num_hidden_layers is 1000.* tensors in all"),
    "no size": (edit_config(hidden_size=None), "hidden_size is None"),
    "heads that do not divide": (edit_config(num_attention_heads=5), "no multiple of num_attention_heads 5"),
    "unknown activation": (edit_config(hidden_act="mish"), "activation is 'mish'; supported: gelu"),
    "relative positions": (edit_config(position_embedding_type="relative_key"), "position_embedding_type"),
    "quantized weights": (edit_config(quantization_config={"load_in_8bit": True}), "the weights are quantized"),
    "no room for a text": (edit_config(max_position_embeddings=2), "at most 2 tokens .* no room for a text beside 2"),
    "names of a wrapper": (
        lambda checkpoint: write_tensors(
            checkpoint, {f"module.{name}": tensor for name, tensor in read_tensors(checkpoint).items()}
        ),
        r"lacks tensors: embeddings.* and \d+ more; others that it has: module\.bert",
    ),
    **{
        f"layer_norm_eps {value!r}": (edit_config(layer_norm_eps=value), "layer_norm_eps is .*positive number")
        for value in (None, "abc", 0, -1, float("nan"), float("inf"), True, 10**400)
    },
    "architectures is an object": (edit_config(architectures={"a": 1}), "architectures is .*list of class names"),
    "a decoder": (edit_config(is_decoder=True), "the model is a decoder"),
    "heads removed": (edit_config(pruned_heads={"0": [1]}), "pruned_heads says that heads of attention were removed"),
    "unlike layers": (
        edit_config(per_layer_config={"0": {"intermediate_size": 32}}),
        "per_layer_config says that layers have settings of their own",
    ),
    "a class of no family, and no model_type": (
        edit_config(model_type=None, architectures=["AlbertModel"]),
        r"has no model_type, and its class 'AlbertModel' .* state model_type, supported: bert, camembert",
    ),
    "an untied table under the decoder's name": (put_table_into_decoder, "lacks tensors: embeddings.word_embeddings"),
    "padding beyond the vocabulary": (
        edit_config(pad_token_id=10**6),
        "transformers cannot load .* as BertForPreTraining: Padding_idx must be within num_embeddings",
    ),
    "two names for a tensor": (duplicate_names, "under two names"),
    "an adapter": (overwrite("adapter_config.json", b"{}"), r"holds an adapter .*\(merge_and_unload\)"),
    **{
        f"the modules {' '.join(kinds)}": (name_modules(*kinds), f"module {stray} cannot be served there")
        for kinds, stray in (
            (("Transformer", "Dense"), "Dense"),
            (("Transformer", "Normalize", "Pooling"), "Normalize"),
            (("Transformer", "Pooling", "Normalize", "Transformer"), "Transformer"),
        )
    },
}

LABEL_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "too few labels": (edit_config(id2label={"0": "only"}), "id2label has labels 0, the classifier 2 outputs"),
    "labels numbered from one": (edit_config(id2label={"1": "a", "2": "b"}), "number them 0 to 1"),
    "a label count that is no number": (
        edit_config(id2label=None, num_labels="two"),
        "num_labels is 'two', a positive whole number",
    ),
    "another label count": (edit_config(id2label=None, num_labels=3), "num_labels is 3 .*classifier has 2 outputs"),
    "labels that are no map": (edit_config(id2label=7), "id2label is 7, the classifier 2 outputs"),
}

CLASSIFIER_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    **LABEL_DAMAGES,
    "unknown problem": (edit_config(problem_type="ranking"), "problem_type 'ranking'"),
    "no problem": (edit_config(problem_type=["x"]), r"problem_type \['x'\]; supported"),
    "a classifier of texts without a pooler": (remove_pooler, "lacks tensors: pooler.dense.weight, pooler.dense.bias"),
    "a classifier under other names": (
        edit_tensor("classifier.weight", lambda _: None),
        "lacks tensors: classifier.weight; others that it has: classifier.bias",
    ),
    "no pooler bias": (edit_tensor("bert.pooler.dense.bias", lambda _: None), "lacks tensors: pooler.dense.bias"),
}


FAMILY_DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "positions after no padding": ("roberta", edit_config(pad_token_id=None), "pad_token_id is None"),
    "padding beyond all positions": (
        "roberta",
        edit_config(pad_token_id=200),
        r"max_position_embeddings 130 leaves no position .* pad_token_id \+ 1 = 201",
    ),
    "a decoder": ("xlm-roberta", edit_config(is_decoder=True), "the model is a decoder"),
    "relative positions": ("electra", edit_config(position_embedding_type="relative_key"), "position_embedding_type"),
    "an entry by another name": ("distilbert", edit_config(dim=None, hidden_size=32), "config.json: dim is None"),
    "heads that do not divide": ("distilbert", edit_config(n_heads=5), "dim 32 is no multiple of n_heads 5"),
    "an unknown activation": ("distilbert", edit_config(activation="mish"), "activation is 'mish'; supported: gelu"),
    "no projection": (
        "electra",
        edit_tensor("electra.embeddings_project.weight", lambda _: None),
        "lacks tensors: embeddings_project.weight",
    ),
    "another projection": ("electra", edit_config(embedding_size=24), r"word_embeddings.weight is \[\d+, 20\]"),
}


def assert_refused(export: Export, checkpoint: Path, tmp_path: Path, message: str) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportError, match=message) as caught:
        export(checkpoint)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[Path], object], message: str, tmp_path: Path, export: Export
) -> None:
    """The line says what is wrong and where, and no file or folder remains."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    damage(checkpoint)
    assert_refused(export, checkpoint, tmp_path, message)


@pytest.mark.parametrize(("damage", "message"), CLASSIFIER_DAMAGES.values(), ids=CLASSIFIER_DAMAGES.keys())
def test_a_damaged_classifier_is_refused(
    damage: Callable[[Path], object], message: str, tmp_path: Path, export: Export
) -> None:
    """Labels that do not fit the head are a fault, not a detail."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", heads=["sequence_classification"])
    damage(checkpoint)
    assert_refused(export, checkpoint, tmp_path, message)


@pytest.mark.parametrize(("damage", "message"), LABEL_DAMAGES.values(), ids=LABEL_DAMAGES.keys())
def test_token_labels_that_disagree_with_the_head_are_refused(
    damage: Callable[[Path], object], message: str, tmp_path: Path, export: Export
) -> None:
    """A label map of another size or numbering would call tokens by wrong names."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", heads=["token_classification"])
    damage(checkpoint)
    assert_refused(export, checkpoint, tmp_path, message)


@pytest.mark.parametrize(("family", "damage", "message"), FAMILY_DAMAGES.values(), ids=FAMILY_DAMAGES.keys())
def test_a_damaged_checkpoint_of_another_family_is_refused(
    family: str, damage: Callable[[Path], object], message: str, tmp_path: Path, export: Export
) -> None:
    """The line speaks of the settings and tensors by the family's own names."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", family)
    damage(checkpoint)
    assert_refused(export, checkpoint, tmp_path, message)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
# File → the form of a checkpoint in which it is read, and what else lies beside it.
POINTERS: dict[str, dict[str, Any]] = {
    "config.json": {},
    "tokenizer.json": {},
    "tokenizer_config.json": {},
    "special_tokens_map.json": {},
    "modules.json": {},
    "sentence_bert_config.json": {"beside": ("modules.json",)},
    "1_Pooling/config.json": {"beside": ("modules.json",)},
    "config_sentence_transformers.json": {"beside": ("modules.json",)},
    "vocab.txt": {"tokenizer": "vocab.txt"},
    "added_tokens.json": {"tokenizer": "vocab.txt"},
    "vocab.json": {"tokenizer": "", "beside": ("merges.txt",)},
    "merges.txt": {"tokenizer": "", "beside": ("vocab.json",)},
    "sentencepiece.bpe.model": {"tokenizer": ""},
    "model.safetensors.index.json": {"form": "shards"},
    "model-00002-of-00002.safetensors": {"form": "shards"},
    "pytorch_model.bin": {"form": "pickle"},
}
WHOLE = {
    "modules.json": [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ],
    "vocab.json": {"a": 0},
    "merges.txt": "#version: 0.2",
}


@pytest.mark.parametrize(("name", "options"), POINTERS.items(), ids=POINTERS.keys())
def test_a_pointer_of_git_lfs_is_named_in_any_file(
    name: str, options: dict[str, Any], tmp_path: Path, export: Export
) -> None:
    """The file was never fetched, and the line says how to fetch it."""
    beside = options.get("beside", ())
    options = {option: value for option, value in options.items() if option != "beside"}
    checkpoint = write_checkpoint(tmp_path / "checkpoint", **options)
    (checkpoint / "1_Pooling").mkdir()
    (checkpoint / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}', encoding="utf-8")
    for file in beside:
        (checkpoint / file).write_text(json.dumps(WHOLE[file]), encoding="utf-8")
    (checkpoint / name).write_bytes(POINTER)
    assert_refused(export, checkpoint, tmp_path, f"{name} is a pointer that Git LFS .*; fetch it with 'git lfs pull'")


def test_a_pointer_that_no_export_reads_is_no_fault(tmp_path: Path, export: Export) -> None:
    """Weights for other libraries need not be fetched."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ["pooler"])
    for name in ("pytorch_model.bin", "tf_model.h5", "sentencepiece.bpe.model"):
        (checkpoint / name).write_bytes(POINTER)
    assert export(checkpoint).model.family == "bert"


class Failing:
    """Steps that raise what a library might."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def step(self, *_: object) -> AbstractContextManager[Callable[[], None]]:
        raise self._error


class Panic(BaseException):
    """As Rust code that panics raises: no Exception."""


@pytest.mark.parametrize(
    "error", [RuntimeError("two\nlines"), MemoryError(), KeyError("x"), Panic("index out of bounds")], ids=repr
)
def test_an_error_that_nobody_foresaw_is_one_line(error: BaseException, tmp_path: Path) -> None:
    """Whatever class it has; it stays the cause, and nothing is left behind."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    request = ExportRequest(model=str(checkpoint), output=tmp_path / "bundle")
    with pytest.raises(ExportError, match=f"failed where nobody expected it: {type(error).__name__}") as caught:
        export_checkpoint(request, Failing(error))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_the_library_that_failed_is_named() -> None:
    """It is the innermost one."""
    with (
        pytest.raises(ExportError, match=r"^torch failed where nobody expected it: RuntimeError: .*; --traceback"),
        explain_unexpected(),
    ):
        torch.nn.Linear(2, 2)(torch.ones(3))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ModuleNotFoundError("onnx"), BundleError("no")], ids=repr)
def test_what_the_command_knows_how_to_tell_passes(error: BaseException) -> None:
    """An interruption, a missing package and a refusal are no faults of a library."""
    with pytest.raises(type(error)), explain_unexpected():
        raise error


def test_an_input_that_pytorch_cannot_run_is_one_line(tmp_path: Path) -> None:
    """A token beyond the word table, say; the line names the class and the input's length."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    read = read_checkpoint(checkpoint)
    architecture = read_architecture(read)
    reference = load_reference(checkpoint, select_weights(read, architecture), architecture.heads)
    item = Item(input_ids=np.array([2, 10**6, 3]), token_type_ids=np.zeros(3, np.int64), wanted=Wanted())
    with pytest.raises(ExportError, match=r"^PyTorch cannot run BertForPreTraining on an input of 3 tokens: index out"):
        reference.run(item)


def test_a_missed_gate_names_the_flag_that_lets_it_pass(
    tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32 as in int8. Rounding alone misses a bound of zero."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ["pooler"])
    for precision, figure, bound in (
        ("fp32", "hidden_max_relative_difference", {"at_most": 0.0}),
        ("int8", "token_cosine_min", {"at_least": 1.1}),
    ):
        gate = Gate(head=Head.EMBEDDING, figure=figure, **bound)
        monkeypatch.setitem(PRECISIONS, precision, replace(PRECISIONS[precision], gates=(gate,)))
        with pytest.raises(ExportError, match=rf"{figure} is .*, must be .*--allow-accuracy-loss"):
            export(checkpoint, precision=precision)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, export: Export) -> None:
    """Nothing but tensors is ever unpickled."""
    trace = tmp_path / "was-run"

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {trace}",)

    checkpoint = write_checkpoint(tmp_path / "checkpoint", form="pickle")
    torch.save({"weight": Malicious()}, checkpoint / "pytorch_model.bin")
    assert_refused(export, checkpoint, tmp_path, "cannot be read as plain tensors")
    with (checkpoint / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Malicious(), file)
    assert_refused(export, checkpoint, tmp_path, "cannot be read as plain tensors")
    assert not trace.exists()


def test_a_missing_shard_is_refused(tmp_path: Path, export: Export) -> None:
    """The index names a file that is not there."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", form="shards")
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    assert_refused(export, checkpoint, tmp_path, "weight files missing: model-00002-of-00002.safetensors")


def test_a_shard_without_a_name_is_refused(tmp_path: Path, export: Export) -> None:
    """An index whose file names are something else entirely."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", form="shards")
    index = {"weight_map": {"embeddings": ["model.safetensors"]}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert_refused(export, checkpoint, tmp_path, "names no weight files beside it")


def test_a_shard_outside_of_the_folder_is_refused(tmp_path: Path, export: Export) -> None:
    """An index cannot make the exporter read files elsewhere."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", form="shards")
    index = {"weight_map": {"embeddings": "../elsewhere.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert_refused(export, checkpoint, tmp_path, "names no weight files beside it")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, export: Export) -> None:
    """Its ids would fall outside of the word table."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", vocab_size=300)
    other = write_checkpoint(tmp_path / "other")
    (checkpoint / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
    assert_refused(export, checkpoint, tmp_path, "they do not belong together")


def test_an_existing_target_is_kept(tmp_path: Path, export: Export) -> None:
    """Without --force nothing is replaced."""
    bundle = export(write_checkpoint(tmp_path / "checkpoint"))
    with pytest.raises(ExportError, match="already exists; choose another directory or pass --force"):
        export(write_checkpoint(tmp_path / "other", seed=1))
    assert export(tmp_path / "checkpoint", tmp_path / "again").manifest.bundle_id == bundle.manifest.bundle_id


def test_a_failed_replacement_keeps_the_old_bundle(tmp_path: Path, export: Export) -> None:
    """--force replaces a bundle only by one that is complete."""
    bundle = export(write_checkpoint(tmp_path / "checkpoint"))
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="holds no weights"):
        export(tmp_path / "checkpoint", force=True)
    assert (bundle.path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./no/such/directory", "no such directory, and not the form of a hub id"),
        ("..", "config.json is missing"),
        ("a/b/c", "no such directory"),
    ],
)
def test_a_model_that_is_nowhere_is_refused(
    model: str, message: str, tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a directory nor the form of a hub id."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert_refused(export, Path(model) if model == ".." else model, tmp_path, message)  # type: ignore[arg-type]


def test_a_file_in_place_of_a_directory_is_refused(tmp_path: Path, export: Export) -> None:
    """The line asks for the directory around it."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    assert_refused(export, checkpoint / "model.safetensors", tmp_path, "is a file; give the directory")


def test_a_revision_of_a_directory_is_refused(tmp_path: Path, export: Export) -> None:
    """Only the hub has revisions."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ExportError, match="leave out --revision"):
        export(checkpoint, revision="main")


def test_calibration_of_what_is_not_calibrated_is_refused(tmp_path: Path, brief_texts: Path, export: Export) -> None:
    """An option that would change nothing is not taken in silence."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ExportError, match=r"--calibration is what int8 is fitted to.* --precision int8"):
        export(checkpoint, calibration=brief_texts)


def test_calibration_without_a_token_is_refused_by_its_own_name(tmp_path: Path, export: Export) -> None:
    """A pair that lacks its first text yields nothing; it is not the texts to verify on that are at fault."""
    checkpoint, texts = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "texts.txt"
    texts.write_text("\tcat\n", encoding="utf-8")
    with pytest.raises(ExportError, match=r"^none of the texts for --calibration yields a token"):
        export(checkpoint, precision="int8", calibration=texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", "holds no text; write one a line"),
        ("yes\nno\nété".encode("latin-1"), r"is not UTF-8 \(line 3\); save it in that encoding"),
        ("yes\nno".encode("utf-16"), r"is not UTF-8 \(line 1\)"),
        (None, "cannot be read: No such file"),
    ],
    ids=["blank", "Latin-1", "UTF-16", "missing"],
)
def test_a_file_without_text_is_refused(content: bytes | None, message: str, tmp_path: Path, export: Export) -> None:
    """Nothing would be verified, or fitted to; the line names the option, the file, and where it is wrong."""
    checkpoint, texts = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "texts.txt"
    if content is not None:
        texts.write_bytes(content)
    with pytest.raises(ExportError, match=f"^--verify {texts} {message}"):
        export(checkpoint, verify=texts)
    with pytest.raises(ExportError, match=f"^--calibration {texts} {message}"):
        export(checkpoint, precision="int8", calibration=texts)


@pytest.mark.parametrize("kind", [SafetensorsFile, PickleFile])
def test_weights_that_cannot_be_read_are_said_to_be_just_that(kind: type[WeightFile], tmp_path: Path) -> None:
    """Another user's, say, as safetensors leaves its files; a folder stands for them, since tests may run as root."""
    with pytest.raises(ExportError, match=r"cannot be read \(Is a directory\)"):
        kind(tmp_path).names()  # type: ignore[call-arg]
