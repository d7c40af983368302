"""Tiny random checkpoints on disk, in the forms in which real ones come: everything that is tested starts from these.

Tensors are drawn here, by name, so that what a test exports does not depend on how `transformers` writes or initialises
a model. Biases and LayerNorm weights are random too: zeros and ones would hide a mistake.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

WORDS = """
a about after again air all also always am an and animal another answer any are around as ask at away back ball bank be
because been before bell best better big bird blue boat body book both box boy branch bread bring brother brown
build but by calculus call came can car carry cat chair child city clean close cold color come could cup cut dark day
deep developed did do does dog door down draw drink dry each earth eat egg end english even ever every eye face fact
family far farm fast father feel few field find fire first fish floor flower fly follow food foot for form forest found
four fox friend from full game garden gave get girl give glass go gold good great green ground grow had hand happy has
have he head hear heart heavy help her here high hill him his history hold home horse hot house how hundred i ice idea
if in into is it its jump jumped just keep kind king knew know land large last late laugh lazy leaf learn left leibniz
letter life light like line lion list little live long look lost love low made make man many map market mat math
mathematics may me mean men milk mind money moon more morning most mother mountain mouse move much music must my name
near never new newton next night no north not now number of off old on once one only open or other our out over own
page paint paper part people physics picture place plant play point queen question quick rain read red rest rice right
river road room round run said same sang sat saw say school science sea second see seed seem sentence she ship shoes
short should show side sing sister sit sky sleep slow small snow so some song soon south speak stand star start stone
stop store story street strong study summer sun sweet table take talk tall tea teach tell ten than that the their them
then there these they thing think this those three through time to today together took town travel tree true turn two
under until up upon us use very voice wait walk wall want warm was wash watch water way we week well went were west what
when where which while white who whole why will wind window winter wish with woman wood word work world would write
wrote year yellow yes yet you young your
""".split()  # noqa: SIM905 (a list of quoted words is harder to read)

WORD_PIECES = [
    "##ed",
    "##ing",
    "##er",
    "##est",
    "##ly",
    "##ness",
    "##able",
    "##tion",
    "##al",
    "##es",
    "##en",
    "##or",
    "##ment",
    "##ful",
    "##less",
]

CHARACTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789", *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"]

# The order is the order of ids.
VOCABULARY = [
    *SPECIAL_TOKENS,
    *CHARACTERS,
    *(f"##{character}" for character in CHARACTERS if character.isalnum()),
    *sorted(set(WORDS) - set(CHARACTERS)),
    *WORD_PIECES,
]

TINY = {
    "model_type": "bert",
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}

CLASSIFIERS = {"sequence_classification", "token_classification"}
PRETRAINED_HEADS = ("masked_lm", "next_sentence")


def write_checkpoint(
    directory: Path,
    heads: Iterable[str] = PRETRAINED_HEADS,
    *,
    labels: Sequence[str] = ("negative", "positive"),
    form: str = "safetensors",
    prefix: bool = True,
    legacy_names: bool = False,
    tokenizer: str = "tokenizer.json",
    seed: int = 0,
    dtype: type[np.generic] = np.float32,
    **config: Any,
) -> Path:
    """Write a checkpoint with the heads asked: pooler, masked_lm, next_sentence, and either sequence_classification or
    token_classification.

    form: safetensors, shards (two files and an index) or pickle. prefix: names begin with `bert.`. legacy_names: gamma
    and beta, as the first checkpoints have them. tokenizer: tokenizer.json, vocab.txt, or "" for none. config: entries
    of config.json beside or instead of TINY's; None removes one.
    """
    heads = set(heads)
    settings = {**TINY, "architectures": [architecture(heads)], **config}
    if heads & CLASSIFIERS:
        settings.setdefault("id2label", {str(index): label for index, label in enumerate(labels)})
        settings.setdefault("label2id", {label: index for index, label in enumerate(labels)})
    settings = {name: value for name, value in settings.items() if value is not None}
    tensors = draw_tensors(settings, heads, len(labels), seed)
    tensors = {rename(name, prefix, legacy_names): tensor.astype(dtype) for name, tensor in tensors.items()}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    write_tensors(directory, tensors, form)
    write_tokenizer(directory, settings["vocab_size"], tokenizer)
    return directory


def architecture(heads: set[str]) -> str:
    """The `transformers` class that a checkpoint with these heads would name."""
    if "sequence_classification" in heads:
        return "BertForSequenceClassification"
    if "token_classification" in heads:
        return "BertForTokenClassification"
    if "masked_lm" in heads:
        return "BertForPreTraining" if "next_sentence" in heads else "BertForMaskedLM"
    return "BertForNextSentencePrediction" if "next_sentence" in heads else "BertModel"


def draw_tensors(config: Mapping[str, Any], heads: set[str], label_count: int, seed: int) -> dict[str, np.ndarray]:
    """float32 tensors by their modern names, without prefix."""
    rng = np.random.default_rng(seed)
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    tensors: dict[str, np.ndarray] = {}

    def table(name: str, rows: int) -> None:
        tensors[f"{name}.weight"] = rng.normal(0, 0.3, (rows, hidden)).astype(np.float32)

    def linear(name: str, outputs: int, inputs: int) -> None:
        tensors[f"{name}.weight"] = rng.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = rng.normal(1, 0.1, hidden).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, hidden).astype(np.float32)

    table("embeddings.word_embeddings", vocabulary)
    table("embeddings.position_embeddings", config["max_position_embeddings"])
    table("embeddings.token_type_embeddings", config["type_vocab_size"])
    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(config["num_hidden_layers"])):
        for name in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{name}", hidden, hidden)
        linear(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", inner, hidden)
        linear(f"{layer}.output.dense", hidden, inner)
        norm(f"{layer}.output.LayerNorm")
    if heads & {"pooler", "next_sentence", "sequence_classification"}:
        linear("pooler.dense", hidden, hidden)
    if "masked_lm" in heads:
        linear("cls.predictions.transform.dense", hidden, hidden)
        norm("cls.predictions.transform.LayerNorm")
        tensors["cls.predictions.bias"] = rng.normal(0, 0.1, vocabulary).astype(np.float32)
    if "next_sentence" in heads:
        linear("cls.seq_relationship", 2, hidden)
    if heads & CLASSIFIERS:
        linear("classifier", label_count, hidden)
    return tensors


def rename(name: str, prefix: bool, legacy_names: bool) -> str:
    if prefix and name.startswith(("embeddings.", "encoder.", "pooler.")):
        name = f"bert.{name}"
    if legacy_names:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    return name


def write_tensors(
    directory: Path, tensors: Mapping[str, np.ndarray], form: str = "safetensors", dtype: str = ""
) -> None:
    """Write weight files in one of the forms that `write_checkpoint` names; dtype: as it is, or bfloat16."""
    if form == "pickle" or dtype == "bfloat16":
        _write_torch_tensors(directory, tensors, form, dtype)
        return
    from safetensors.numpy import save_file

    if form == "safetensors":
        save_file(dict(tensors), directory / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    weight_map = {name: files[index >= len(names) // 2] for index, name in enumerate(names)}
    for file in files:
        part = {name: tensors[name] for name in names if weight_map[name] == file}
        save_file(part, directory / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _write_torch_tensors(directory: Path, tensors: Mapping[str, np.ndarray], form: str, dtype: str) -> None:
    """What numpy cannot: a pickle, and bfloat16."""
    import torch
    from safetensors.torch import save_file

    state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    if dtype == "bfloat16":
        state = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    if form == "pickle":
        torch.save(state, directory / "pytorch_model.bin")
    else:
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def read_tensors(directory: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint in the form safetensors; edit and `write_tensors` to damage one."""
    from safetensors.numpy import load_file

    return load_file(directory / "model.safetensors")


def vocabulary_of(size: int) -> list[str]:
    """VOCABULARY cut or filled up with unused entries to `size`."""
    return [*VOCABULARY[:size], *(f"[unused{index}]" for index in range(size - len(VOCABULARY)))]


def write_tokenizer(directory: Path, vocabulary_size: int, form: str = "tokenizer.json") -> None:
    """A lower-casing WordPiece tokenizer, with the truncation and padding that checkpoints carry about."""
    vocabulary = vocabulary_of(vocabulary_size)
    if form:
        settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 512}
        (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if form == "vocab.txt":
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    elif form == "tokenizer.json":
        tokenizer = word_piece_tokenizer(vocabulary)
        tokenizer.enable_truncation(16)
        tokenizer.enable_padding(length=16)
        tokenizer.save(str(directory / "tokenizer.json"))


def word_piece_tokenizer(vocabulary: Sequence[str]) -> Any:
    """A `tokenizers.Tokenizer` as BERT's uncased checkpoints have it, special tokens added around texts and pairs."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return tokenizer
