"""Model families: which modules a model is made of, what their tensors are called, and what shapes they have.

One table a family. Names are as in `transformers`, without the base model's prefix; `{layer}` counts from 0. Shapes are
written in the words of `Architecture.sizes`. Knows nothing of files or graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bertserve.bundle import Head

from bertexport.errors import ExportError

# In a head's steps: the activation that config.json names for the layers.
LAYER_ACTIVATION = "hidden_act"


class Kind(StrEnum):
    """What a module computes."""

    TABLE = "table"
    LINEAR = "linear"
    NORM = "norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """name: of the module in the checkpoint; shapes: tensor of the module, such as `weight`, → its sizes by name."""

    name: str
    kind: Kind
    shapes: Mapping[str, tuple[str, ...]]

    def tensor_names(self, layer: int = 0) -> dict[str, str]:
        """Tensor of the module → its name in the checkpoint."""
        name = self.name.format(layer=layer)
        return {tensor: f"{name}.{tensor}" for tensor in self.shapes}


# A module that a head applies, or an activation by the name that `transformers` has for it.
Step = Module | str


def _table(name: str, rows: str) -> Module:
    return Module(name=name, kind=Kind.TABLE, shapes={"weight": (rows, "embedding")})


def _linear(name: str, outputs: str, inputs: str) -> Module:
    return Module(name=name, kind=Kind.LINEAR, shapes={"weight": (outputs, inputs), "bias": (outputs,)})


def _norm(name: str, size: str = "hidden") -> Module:
    return Module(name=name, kind=Kind.NORM, shapes={"weight": (size,), "bias": (size,)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Entries of config.json by what they mean. epsilon: in its place where the family fixes it."""

    hidden_size: str = "hidden_size"
    intermediate_size: str = "intermediate_size"
    layer_count: str = "num_hidden_layers"
    attention_heads: str = "num_attention_heads"
    activation: str = "hidden_act"
    epsilon: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """embeddings, layer: role → module; token_type is missing where the model has no such table.

    projection: from the embeddings' size to the layers', where config.json's embedding_size differs from hidden_size.
    heads: the steps from the rows that a head reads to its output. marks: beginnings of the names of tensors that
    together show that a head is there. stand_ins: a tensor that may be missing → the one that then takes its place.
    prefix: of the base model's names in checkpoints of a model with heads. classes: heads → the class of `transformers`
    that has them; together the classes of a checkpoint have all its heads. has_segments: whether the model's tokenizer
    tells the texts of a pair apart. padding_id: where positions are counted from the padding token's id + 1, that id by
    default; None where they are counted from 0.
    """

    name: str
    prefix: str
    embeddings: Mapping[str, Module]
    layer: Mapping[str, Module]
    heads: Mapping[Head, tuple[Step, ...]]
    marks: Mapping[Head, tuple[str, ...]]
    classes: Mapping[tuple[Head, ...], str]
    settings: Settings = field(default_factory=Settings)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    projection: Module | None = None
    has_segments: bool = False
    padding_id: int | None = None

    @property
    def decoder(self) -> Module | None:
        """What turns a masked token's state into logits over the vocabulary."""
        return self.last_module(Head.MASKED_LM) if Head.MASKED_LM in self.heads else None

    def last_module(self, head: Head) -> Module:
        """The module that gives the head's output."""
        return next(step for step in reversed(self.heads[head]) if isinstance(step, Module))

    def reads_pooler(self, head: Head) -> bool:
        """Whether the head begins with the pooler's steps."""
        pooler = self.heads.get(Head.POOLER, ())
        return bool(pooler) and self.heads[head][: len(pooler)] == pooler

    def modules(self, heads: tuple[Head, ...], layer_count: int, *, projects: bool) -> Iterator[tuple[Module, int]]:
        """Every module that a model with these heads needs, with its layer."""
        for module in self.embeddings.values():
            yield module, 0
        if projects and self.projection is not None:
            yield self.projection, 0
        for layer in range(layer_count):
            for module in self.layer.values():
                yield module, layer
        steps = (step for head in heads for step in self.heads[head])
        for module in {step.name: step for step in steps if isinstance(step, Module)}.values():
            yield module, 0


_LAYER = "encoder.layer.{layer}"
_BERT_EMBEDDINGS = {
    "word": _table("embeddings.word_embeddings", "vocabulary"),
    "token_type": _table("embeddings.token_type_embeddings", "token_types"),
    "position": _table("embeddings.position_embeddings", "positions"),
    "embedding_norm": _norm("embeddings.LayerNorm", "embedding"),
}
_BERT_LAYER = {
    "query": _linear(f"{_LAYER}.attention.self.query", "hidden", "hidden"),
    "key": _linear(f"{_LAYER}.attention.self.key", "hidden", "hidden"),
    "value": _linear(f"{_LAYER}.attention.self.value", "hidden", "hidden"),
    "projection": _linear(f"{_LAYER}.attention.output.dense", "hidden", "hidden"),
    "attention_norm": _norm(f"{_LAYER}.attention.output.LayerNorm"),
    "up": _linear(f"{_LAYER}.intermediate.dense", "intermediate", "hidden"),
    "down": _linear(f"{_LAYER}.output.dense", "hidden", "intermediate"),
    "output_norm": _norm(f"{_LAYER}.output.LayerNorm"),
}
_CLASSIFIER = _linear("classifier", "labels", "hidden")
_POOLER: tuple[Step, ...] = (_linear("pooler.dense", "hidden", "hidden"), "tanh")

BERT = Family(
    name="bert",
    prefix="bert.",
    embeddings=_BERT_EMBEDDINGS,
    layer=_BERT_LAYER,
    heads={
        Head.EMBEDDING: (),
        Head.POOLER: _POOLER,
        Head.MASKED_LM: (
            _linear("cls.predictions.transform.dense", "hidden", "hidden"),
            LAYER_ACTIVATION,
            _norm("cls.predictions.transform.LayerNorm"),
            _linear("cls.predictions.decoder", "vocabulary", "hidden"),
        ),
        Head.NEXT_SENTENCE: (*_POOLER, _linear("cls.seq_relationship", "two", "hidden")),
        Head.SEQUENCE_CLASSIFICATION: (*_POOLER, _CLASSIFIER),
        Head.TOKEN_CLASSIFICATION: (_CLASSIFIER,),
    },
    marks={
        Head.POOLER: ("pooler.",),
        Head.MASKED_LM: ("cls.predictions.transform.",),
        Head.NEXT_SENTENCE: ("cls.seq_relationship.",),
        Head.SEQUENCE_CLASSIFICATION: ("classifier.", "pooler."),
        Head.TOKEN_CLASSIFICATION: ("classifier.",),
    },
    classes={
        (Head.MASKED_LM, Head.NEXT_SENTENCE): "BertForPreTraining",
        (Head.MASKED_LM,): "BertForMaskedLM",
        (Head.NEXT_SENTENCE,): "BertForNextSentencePrediction",
        (Head.SEQUENCE_CLASSIFICATION,): "BertForSequenceClassification",
        (Head.TOKEN_CLASSIFICATION,): "BertForTokenClassification",
        (): "BertModel",
    },
    stand_ins={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    has_segments=True,
)

ROBERTA = Family(
    name="roberta",
    prefix="roberta.",
    embeddings=_BERT_EMBEDDINGS,
    layer=_BERT_LAYER,
    heads={
        Head.EMBEDDING: (),
        Head.POOLER: _POOLER,
        Head.MASKED_LM: (
            _linear("lm_head.dense", "hidden", "hidden"),
            "gelu",
            _norm("lm_head.layer_norm"),
            _linear("lm_head.decoder", "vocabulary", "hidden"),
        ),
        Head.SEQUENCE_CLASSIFICATION: (
            _linear("classifier.dense", "hidden", "hidden"),
            "tanh",
            _linear("classifier.out_proj", "labels", "hidden"),
        ),
        Head.TOKEN_CLASSIFICATION: (_CLASSIFIER,),
    },
    marks={
        Head.POOLER: ("pooler.",),
        Head.MASKED_LM: ("lm_head.dense.",),
        Head.SEQUENCE_CLASSIFICATION: ("classifier.out_proj.",),
        Head.TOKEN_CLASSIFICATION: ("classifier.weight",),
    },
    classes={
        (Head.MASKED_LM,): "RobertaForMaskedLM",
        (Head.SEQUENCE_CLASSIFICATION,): "RobertaForSequenceClassification",
        (Head.TOKEN_CLASSIFICATION,): "RobertaForTokenClassification",
        (): "RobertaModel",
    },
    stand_ins={
        "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    padding_id=1,
)


def _named_after_roberta(name: str, classes: str) -> Family:
    """RoBERTa's modules and names under another family's name, with classes that begin otherwise."""
    renamed = {heads: class_name.replace("Roberta", classes) for heads, class_name in ROBERTA.classes.items()}
    return replace(ROBERTA, name=name, classes=renamed)


XLM_ROBERTA = _named_after_roberta("xlm-roberta", "XLMRoberta")
CAMEMBERT = _named_after_roberta("camembert", "Camembert")

_BLOCK = "transformer.layer.{layer}"

DISTILBERT = Family(
    name="distilbert",
    prefix="distilbert.",
    embeddings={role: module for role, module in _BERT_EMBEDDINGS.items() if role != "token_type"},
    layer={
        "query": _linear(f"{_BLOCK}.attention.q_lin", "hidden", "hidden"),
        "key": _linear(f"{_BLOCK}.attention.k_lin", "hidden", "hidden"),
        "value": _linear(f"{_BLOCK}.attention.v_lin", "hidden", "hidden"),
        "projection": _linear(f"{_BLOCK}.attention.out_lin", "hidden", "hidden"),
        "attention_norm": _norm(f"{_BLOCK}.sa_layer_norm"),
        "up": _linear(f"{_BLOCK}.ffn.lin1", "intermediate", "hidden"),
        "down": _linear(f"{_BLOCK}.ffn.lin2", "hidden", "intermediate"),
        "output_norm": _norm(f"{_BLOCK}.output_layer_norm"),
    },
    heads={
        Head.EMBEDDING: (),
        Head.MASKED_LM: (
            _linear("vocab_transform", "hidden", "hidden"),
            LAYER_ACTIVATION,
            _norm("vocab_layer_norm"),
            _linear("vocab_projector", "vocabulary", "hidden"),
        ),
        Head.SEQUENCE_CLASSIFICATION: (
            _linear("pre_classifier", "hidden", "hidden"),
            "relu",
            _CLASSIFIER,
        ),
        Head.TOKEN_CLASSIFICATION: (_CLASSIFIER,),
    },
    marks={
        Head.MASKED_LM: ("vocab_transform.",),
        Head.SEQUENCE_CLASSIFICATION: ("pre_classifier.",),
        Head.TOKEN_CLASSIFICATION: ("classifier.",),
    },
    classes={
        (Head.MASKED_LM,): "DistilBertForMaskedLM",
        (Head.SEQUENCE_CLASSIFICATION,): "DistilBertForSequenceClassification",
        (Head.TOKEN_CLASSIFICATION,): "DistilBertForTokenClassification",
        (): "DistilBertModel",
    },
    settings=Settings(
        hidden_size="dim",
        intermediate_size="hidden_dim",
        layer_count="n_layers",
        attention_heads="n_heads",
        activation="activation",
        epsilon=1e-12,
    ),
    stand_ins={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
)

# The discriminator's own head, which tells replaced tokens, answers no method; the generator's predicts masked words.
ELECTRA = Family(
    name="electra",
    prefix="electra.",
    embeddings=_BERT_EMBEDDINGS,
    layer=_BERT_LAYER,
    heads={
        Head.EMBEDDING: (),
        Head.MASKED_LM: (
            _linear("generator_predictions.dense", "embedding", "hidden"),
            "gelu",
            _norm("generator_predictions.LayerNorm", "embedding"),
            _linear("generator_lm_head", "vocabulary", "embedding"),
        ),
        Head.SEQUENCE_CLASSIFICATION: (
            _linear("classifier.dense", "hidden", "hidden"),
            "gelu",
            _linear("classifier.out_proj", "labels", "hidden"),
        ),
        Head.TOKEN_CLASSIFICATION: (_CLASSIFIER,),
    },
    marks={
        Head.MASKED_LM: ("generator_predictions.",),
        Head.SEQUENCE_CLASSIFICATION: ("classifier.out_proj.",),
        Head.TOKEN_CLASSIFICATION: ("classifier.weight",),
    },
    classes={
        (Head.MASKED_LM,): "ElectraForMaskedLM",
        (Head.SEQUENCE_CLASSIFICATION,): "ElectraForSequenceClassification",
        (Head.TOKEN_CLASSIFICATION,): "ElectraForTokenClassification",
        (): "ElectraModel",
    },
    stand_ins={"generator_lm_head.weight": "embeddings.word_embeddings.weight"},
    projection=_linear("embeddings_project", "hidden", "embedding"),
    has_segments=True,
)

FAMILIES = {family.name: family for family in (BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA)}


def find_family(model_type: str) -> Family:
    """The family that a checkpoint's `model_type` names. Raises ExportError where it is not one of FAMILIES."""
    if model_type not in FAMILIES:
        supported = ", ".join(sorted(FAMILIES))
        raise ExportError(
            f"the checkpoint's family is {model_type!r} (model_type in config.json); supported: {supported}"
        )
    return FAMILIES[model_type]
