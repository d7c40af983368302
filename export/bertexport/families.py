"""Model families: which modules a model is made of, what their tensors are called, and what shapes they have.

One table a family. Names are as in `transformers`, without the base model's prefix; `{layer}` counts from 0. Shapes are
written in the words of `Architecture.sizes`. Knows nothing of files or graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bertserve.bundle import Head

from bertexport.errors import ExportError


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """name: of the module in the checkpoint; shapes: tensor of the module, such as `weight`, → its sizes by name."""

    name: str
    shapes: Mapping[str, tuple[str, ...]]

    def tensor_names(self, layer: int = 0) -> dict[str, str]:
        """Tensor of the module → its name in the checkpoint."""
        name = self.name.format(layer=layer)
        return {tensor: f"{name}.{tensor}" for tensor in self.shapes}


def _table(name: str, rows: str) -> Module:
    return Module(name=name, shapes={"weight": (rows, "hidden")})


def _linear(name: str, outputs: str, inputs: str) -> Module:
    return Module(name=name, shapes={"weight": (outputs, inputs), "bias": (outputs,)})


def _norm(name: str) -> Module:
    return Module(name=name, shapes={"weight": ("hidden",), "bias": ("hidden",)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """embeddings, layer, heads: role → module; a head's modules include those of others that it reads.

    marks: beginnings of the names of tensors that together show that a head is there. stand_ins: a tensor that may be
    missing → the one that then takes its place. prefix: of the base model's names in checkpoints of a model with heads.
    """

    name: str
    prefix: str
    position_offset: int
    embeddings: Mapping[str, Module]
    layer: Mapping[str, Module]
    heads: Mapping[Head, Mapping[str, Module]]
    marks: Mapping[Head, tuple[str, ...]]
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    decoder: str = ""

    def modules(self, heads: tuple[Head, ...], layer_count: int) -> Iterator[tuple[Module, int]]:
        """Every module that a model with these heads needs, with its layer."""
        for module in self.embeddings.values():
            yield module, 0
        for layer in range(layer_count):
            for module in self.layer.values():
                yield module, layer
        for module in {m.name: m for head in heads for m in self.heads[head].values()}.values():
            yield module, 0


_LAYER = "encoder.layer.{layer}"
_POOLER = _linear("pooler.dense", "hidden", "hidden")
_CLASSIFIER = _linear("classifier", "labels", "hidden")

BERT = Family(
    name="bert",
    prefix="bert.",
    position_offset=0,
    embeddings={
        "word": _table("embeddings.word_embeddings", "vocabulary"),
        "position": _table("embeddings.position_embeddings", "positions"),
        "token_type": _table("embeddings.token_type_embeddings", "segments"),
        "embedding_norm": _norm("embeddings.LayerNorm"),
    },
    layer={
        "query": _linear(f"{_LAYER}.attention.self.query", "hidden", "hidden"),
        "key": _linear(f"{_LAYER}.attention.self.key", "hidden", "hidden"),
        "value": _linear(f"{_LAYER}.attention.self.value", "hidden", "hidden"),
        "projection": _linear(f"{_LAYER}.attention.output.dense", "hidden", "hidden"),
        "attention_norm": _norm(f"{_LAYER}.attention.output.LayerNorm"),
        "up": _linear(f"{_LAYER}.intermediate.dense", "intermediate", "hidden"),
        "down": _linear(f"{_LAYER}.output.dense", "hidden", "intermediate"),
        "output_norm": _norm(f"{_LAYER}.output.LayerNorm"),
    },
    heads={
        Head.EMBEDDING: {},
        Head.POOLER: {"pooler": _POOLER},
        Head.MASKED_LM: {
            "transform": _linear("cls.predictions.transform.dense", "hidden", "hidden"),
            "transform_norm": _norm("cls.predictions.transform.LayerNorm"),
            "decoder": _linear("cls.predictions.decoder", "vocabulary", "hidden"),
        },
        Head.NEXT_SENTENCE: {"pooler": _POOLER, "next_sentence": _linear("cls.seq_relationship", "two", "hidden")},
        Head.SEQUENCE_CLASSIFICATION: {"pooler": _POOLER, "classifier": _CLASSIFIER},
        Head.TOKEN_CLASSIFICATION: {"classifier": _CLASSIFIER},
    },
    marks={
        Head.POOLER: ("pooler.",),
        Head.MASKED_LM: ("cls.predictions.transform.",),
        Head.NEXT_SENTENCE: ("cls.seq_relationship.",),
        Head.SEQUENCE_CLASSIFICATION: ("classifier.", "pooler."),
        Head.TOKEN_CLASSIFICATION: ("classifier.",),
    },
    stand_ins={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    decoder="cls.predictions.decoder.weight",
)

FAMILIES = {family.name: family for family in (BERT,)}


def find_family(model_type: str) -> Family:
    """The family that a checkpoint's `model_type` names. Raises ExportError where it is not one of FAMILIES."""
    if model_type not in FAMILIES:
        supported = ", ".join(sorted(FAMILIES))
        raise ExportError(
            f"the checkpoint's family is {model_type!r} (model_type in config.json); supported: {supported}"
        )
    return FAMILIES[model_type]
