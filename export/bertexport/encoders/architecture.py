"""What a checkpoint's settings and tensors say together: its sizes, its heads, and what its labels mean.

Heads are decided by the tensors that are there, not by the class that config.json names: the hub's bert-base-uncased
calls itself BertForMaskedLM and carries a next-sentence head too. The one thing that the class decides is what a
classifier classifies, texts or tokens, for old token classifiers carry an idle pooler and look like those of texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from bertserve.bundle import Head, ProblemType
from bertserve.engine.items import Float32s

from bertexport.encoders.family import Family
from bertexport.errors import ExportError
from bertexport.source.checkpoint import Checkpoint
from bertexport.source.labels import name_labels, shorten

PROBLEM_TYPES = {
    "single_label_classification": ProblemType.SINGLE_LABEL,
    "multi_label_classification": ProblemType.MULTI_LABEL,
    "regression": ProblemType.REGRESSION,
}
# A checkpoint has one classifier: the head that it is, by how the names of its classes in `transformers` end.
CLASSIFIERS = {
    Head.SEQUENCE_CLASSIFICATION: "ForSequenceClassification",
    Head.TOKEN_CLASSIFICATION: "ForTokenClassification",
}
# Of classes whose classifier is neither: it compares choices, each a text of its own.
COMPARING_CLASSES = "ForMultipleChoice"
# Entries of config.json that make layers differ from each other.
VARIANTS = {
    "pruned_heads": "heads of attention were removed from some layers",
    "per_layer_config": "layers have settings of their own",
}
# Of ELECTRA, where config.json names none.
DEFAULT_EMBEDDING_SIZE = 128
FLOAT32_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model's sizes and heads.

    embedding_size: of the tables' rows. token_types: rows of the token-type table, 1 without one.
    position_offset: position of an input's first token.
    """

    heads: tuple[Head, ...]
    embedding_size: int
    hidden_size: int
    intermediate_size: int
    layer_count: int
    attention_heads: int
    activation: str
    layer_norm_epsilon: float
    vocabulary_size: int
    token_types: int
    position_limit: int
    position_offset: int
    labels: tuple[str, ...]
    problem_type: ProblemType | None

    @property
    def longest_text(self) -> int:
        """Positions for tokens: the longest input in tokens, special ones included."""
        return self.position_limit - self.position_offset

    @property
    def projects(self) -> bool:
        """Whether the embeddings have another size than the layers."""
        return self.embedding_size != self.hidden_size

    @property
    def sizes(self) -> dict[str, int]:
        """The words in which the families' tables write shapes."""
        return {
            "embedding": self.embedding_size,
            "hidden": self.hidden_size,
            "intermediate": self.intermediate_size,
            "vocabulary": self.vocabulary_size,
            "positions": self.position_limit,
            "token_types": self.token_types,
            "labels": len(self.labels),
            "two": 2,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Exactly the tensors that the graph needs, complete, of the right shapes, and finite.

    tensors: by normalised name. unused: names of tensors in the checkpoint that no supported head reads. stood_in:
    names of tensors that the checkpoint leaves out, and that hold another's values.
    """

    family: Family
    tensors: Mapping[str, Float32s]
    unused: tuple[str, ...]
    stood_in: tuple[str, ...]


def read_architecture(checkpoint: Checkpoint) -> Architecture:
    """Raises ExportError: a setting is missing or unsupported, or the label map disagrees with the head."""
    config, family = checkpoint.config, checkpoint.family
    settings = family.settings
    _refuse_variants(config)
    heads = find_heads(family, checkpoint.tensors, checkpoint.architecture)
    classifier = next((head for head in heads if head in CLASSIFIERS), None)
    labels = _read_labels(checkpoint, classifier) if classifier is not None else ()
    hidden_size = _count(config, settings.hidden_size)
    token_types = _count(config, "type_vocab_size", 2) if "token_type" in family.embeddings else 1
    architecture = Architecture(
        heads=heads,
        embedding_size=_count(config, "embedding_size", DEFAULT_EMBEDDING_SIZE) if family.projection else hidden_size,
        hidden_size=hidden_size,
        intermediate_size=_count(config, settings.intermediate_size),
        layer_count=_count(config, settings.layer_count),
        attention_heads=_count(config, settings.attention_heads),
        activation=str(config.get(settings.activation, "gelu")),
        layer_norm_epsilon=_epsilon(config) if settings.epsilon is None else settings.epsilon,
        vocabulary_size=_count(config, "vocab_size"),
        token_types=token_types,
        position_limit=_count(config, "max_position_embeddings", 512),
        position_offset=_position_offset(config, family),
        labels=labels,
        problem_type=_read_problem_type(config, len(labels)) if Head.SEQUENCE_CLASSIFICATION in heads else None,
    )
    if architecture.hidden_size % architecture.attention_heads:
        raise ExportError(
            f"config.json: {settings.hidden_size} {architecture.hidden_size} is no multiple of "
            f"{settings.attention_heads} {architecture.attention_heads}"
        )
    if architecture.position_limit <= architecture.position_offset:
        raise ExportError(
            f"config.json: max_position_embeddings {architecture.position_limit} leaves no position for a token, "
            f"since they begin at pad_token_id + 1 = {architecture.position_offset}"
        )
    return architecture


def find_heads(family: Family, tensors: Mapping[str, Float32s], class_name: str) -> tuple[Head, ...]:
    """The heads whose tensors are there, wholly or in part; of classifiers one, the one that the class names if any."""

    def holds(start: str) -> bool:
        return any(name.startswith(start) for name in tensors)

    found = [head for head, starts in family.marks.items() if all(holds(start) for start in starts)]
    classifiers = [head for head in found if head in CLASSIFIERS and not class_name.endswith(COMPARING_CLASSES)]
    named = [head for head, ending in CLASSIFIERS.items() if classifiers and class_name.endswith(ending)]
    others = (head for head in found if head not in CLASSIFIERS)
    return (Head.EMBEDDING, *others, *(named or classifiers)[:1])


def select_weights(checkpoint: Checkpoint, architecture: Architecture) -> Weights:
    """The tensors that the model needs. Raises ExportError: missing, of another shape, not finite."""
    family, sizes = checkpoint.family, architecture.sizes
    # Before the names of so many layers are listed, which may never end.
    if architecture.layer_count > len(checkpoint.tensors):
        raise ExportError(
            f"config.json: {family.settings.layer_count} is {architecture.layer_count}, "
            f"the checkpoint has {len(checkpoint.tensors)} tensors in all"
        )
    needed = {
        module.tensor_names(layer)[tensor]: tuple(sizes[size] for size in shape)
        for module, layer in family.modules(
            architecture.heads, architecture.layer_count, projects=architecture.projects
        )
        for tensor, shape in module.shapes.items()
    }
    sources = {name: _find_source(checkpoint, name) for name in needed}
    missing = [name for name, source in sources.items() if source not in checkpoint.tensors]
    if missing:
        raise _lacking(missing, others=set(checkpoint.tensors) - set(sources.values()))
    tensors = checkpoint.tensors.rename(sources)
    for name, shape in needed.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ExportError(f"tensor {name} is {list(tensor.shape)}, by config.json it should be {list(shape)}")
        if not np.isfinite(tensor).all():
            raise ExportError(f"tensor {name} holds NaN or infinite values; the checkpoint is damaged")
    unused = sorted(set(checkpoint.tensors) - set(needed) - set(family.stand_ins.values()))
    return Weights(
        family=family,
        tensors=tensors,
        unused=tuple(unused),
        stood_in=tuple(name for name in needed if name not in checkpoint.tensors),
    )


def _find_source(checkpoint: Checkpoint, name: str) -> str:
    """The tensor itself, or the one that stands in for it where the checkpoint leaves it out."""
    family = checkpoint.family
    decoder = family.decoder.tensor_names()["weight"] if family.decoder is not None else ""
    is_tied = bool(checkpoint.config.get("tie_word_embeddings", True))
    if name in checkpoint.tensors or (name == decoder and not is_tied):
        return name
    # A file keeps one name of tensors that share memory, and that may be either.
    twins = {twin: target for target, twin in family.stand_ins.items() if is_tied or target != decoder}
    return family.stand_ins.get(name) or twins.get(name, name)


def _refuse_variants(config: Mapping[str, Any]) -> None:
    for entry, meaning in VARIANTS.items():
        if config.get(entry):
            raise ExportError(f"config.json: {entry} says that {meaning}; supported: layers that are alike")
    if config.get("quantization_config"):
        raise ExportError(
            "config.json: the weights are quantized (quantization_config); export the checkpoint that they were made of"
        )
    position_type = config.get("position_embedding_type", "absolute")
    if position_type != "absolute":
        raise ExportError(f"config.json: position_embedding_type {position_type!r}; supported: 'absolute'")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise ExportError("config.json: the model is a decoder (is_decoder, add_cross_attention); supported: encoders")


def _count(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ExportError(f"config.json: {name} is {value!r}, a positive whole number is needed")
    return value


def _position_offset(config: Mapping[str, Any], family: Family) -> int:
    """Position of the first token: one after the padding token's id in the families that count from there."""
    if family.spec.padding_id is None:
        return 0
    padding_id = config.get("pad_token_id", family.spec.padding_id)
    if not isinstance(padding_id, int) or isinstance(padding_id, bool) or padding_id < 0:
        raise ExportError(
            f"config.json: pad_token_id is {padding_id!r}, a whole number is needed: positions begin after it"
        )
    return padding_id + 1


def _epsilon(config: Mapping[str, Any]) -> float:
    value = config.get("layer_norm_eps", 1e-12)
    # As the graph holds it, in float32.
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not FLOAT32_TINY <= value <= 1:
        raise ExportError(f"config.json: layer_norm_eps is {value!r}, a small positive number is needed")
    return float(value)


def _read_labels(checkpoint: Checkpoint, head: Head) -> tuple[str, ...]:
    config, name = checkpoint.config, checkpoint.family.last_module(head).tensor_names()["weight"]
    classifier = checkpoint.tensors.get(name)
    if classifier is None:
        module = name.partition(".")[0]
        raise _lacking([name], others={other for other in checkpoint.tensors if other.startswith(f"{module}.")})
    return name_labels(config, len(classifier))


def _read_problem_type(config: Mapping[str, Any], label_count: int) -> ProblemType:
    name = config.get("problem_type")
    if name is None:
        name = "single_label_classification"
    if not isinstance(name, str) or name not in PROBLEM_TYPES:
        raise ExportError(f"config.json: problem_type {name!r}; supported: {', '.join(PROBLEM_TYPES)}")
    kind = PROBLEM_TYPES[name]
    # A softmax over one label says nothing. The text-classification pipeline of transformers takes a sigmoid, too.
    return ProblemType.MULTI_LABEL if label_count == 1 and kind is ProblemType.SINGLE_LABEL else kind


def _lacking(missing: list[str], others: set[str]) -> ExportError:
    """others: names among which a reader may find what is missing."""
    found = shorten(sorted(others)) or "none"
    return ExportError(f"the checkpoint lacks tensors: {shorten(missing)}; others that it has: {found}")
