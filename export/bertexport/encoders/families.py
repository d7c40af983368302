"""The model families: what their modules and tensors are called, and what their heads are made of.

One table a family. Names are as in `transformers`, without the base model's prefix; `{layer}` counts from 0.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bertserve.bundle import Head

from bertexport.encoders.family import LAYER_ACTIVATION, Family, Settings, Step, linear, norm, table
from bertexport.errors import ExportError

_LAYER = "encoder.layer.{layer}"
_BERT_EMBEDDINGS = {
    "word": table("embeddings.word_embeddings", "vocabulary"),
    "token_type": table("embeddings.token_type_embeddings", "token_types"),
    "position": table("embeddings.position_embeddings", "positions"),
    "embedding_norm": norm("embeddings.LayerNorm", "embedding"),
}
_BERT_LAYER = {
    "query": linear(f"{_LAYER}.attention.self.query", "hidden", "hidden"),
    "key": linear(f"{_LAYER}.attention.self.key", "hidden", "hidden"),
    "value": linear(f"{_LAYER}.attention.self.value", "hidden", "hidden"),
    "projection": linear(f"{_LAYER}.attention.output.dense", "hidden", "hidden"),
    "attention_norm": norm(f"{_LAYER}.attention.output.LayerNorm"),
    "up": linear(f"{_LAYER}.intermediate.dense", "intermediate", "hidden"),
    "down": linear(f"{_LAYER}.output.dense", "hidden", "intermediate"),
    "output_norm": norm(f"{_LAYER}.output.LayerNorm"),
}
_CLASSIFIER = linear("classifier", "labels", "hidden")
_POOLER: tuple[Step, ...] = (linear("pooler.dense", "hidden", "hidden"), "tanh")

BERT = Family(
    name="bert",
    prefix="bert.",
    embeddings=_BERT_EMBEDDINGS,
    layer=_BERT_LAYER,
    heads={
        Head.EMBEDDING: (),
        Head.POOLER: _POOLER,
        Head.MASKED_LM: (
            linear("cls.predictions.transform.dense", "hidden", "hidden"),
            LAYER_ACTIVATION,
            norm("cls.predictions.transform.LayerNorm"),
            linear("cls.predictions.decoder", "vocabulary", "hidden"),
        ),
        Head.NEXT_SENTENCE: (*_POOLER, linear("cls.seq_relationship", "two", "hidden")),
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
            linear("lm_head.dense", "hidden", "hidden"),
            "gelu",
            norm("lm_head.layer_norm"),
            linear("lm_head.decoder", "vocabulary", "hidden"),
        ),
        Head.SEQUENCE_CLASSIFICATION: (
            linear("classifier.dense", "hidden", "hidden"),
            "tanh",
            linear("classifier.out_proj", "labels", "hidden"),
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
        "query": linear(f"{_BLOCK}.attention.q_lin", "hidden", "hidden"),
        "key": linear(f"{_BLOCK}.attention.k_lin", "hidden", "hidden"),
        "value": linear(f"{_BLOCK}.attention.v_lin", "hidden", "hidden"),
        "projection": linear(f"{_BLOCK}.attention.out_lin", "hidden", "hidden"),
        "attention_norm": norm(f"{_BLOCK}.sa_layer_norm"),
        "up": linear(f"{_BLOCK}.ffn.lin1", "intermediate", "hidden"),
        "down": linear(f"{_BLOCK}.ffn.lin2", "hidden", "intermediate"),
        "output_norm": norm(f"{_BLOCK}.output_layer_norm"),
    },
    heads={
        Head.EMBEDDING: (),
        Head.MASKED_LM: (
            linear("vocab_transform", "hidden", "hidden"),
            LAYER_ACTIVATION,
            norm("vocab_layer_norm"),
            linear("vocab_projector", "vocabulary", "hidden"),
        ),
        Head.SEQUENCE_CLASSIFICATION: (
            linear("pre_classifier", "hidden", "hidden"),
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
            linear("generator_predictions.dense", "embedding", "hidden"),
            "gelu",
            norm("generator_predictions.LayerNorm", "embedding"),
            linear("generator_lm_head", "vocabulary", "embedding"),
        ),
        Head.SEQUENCE_CLASSIFICATION: (
            linear("classifier.dense", "hidden", "hidden"),
            "gelu",
            linear("classifier.out_proj", "labels", "hidden"),
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
    projection=linear("embeddings_project", "hidden", "embedding"),
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


def find_family_of_class(class_name: str) -> Family:
    """The family that a class of `transformers` belongs to. Raises ExportError."""
    for family in FAMILIES.values():
        if re.fullmatch(f"{family.classes[()].removesuffix('Model')}(Model|For[A-Z].*)", class_name):
            return family
    raise ExportError(
        f"config.json has no model_type, and its class {class_name!r} (architectures) is of no supported family; "
        f"state model_type, supported: {', '.join(sorted(FAMILIES))}"
    )
