"""RoBERTa, and the families that are RoBERTa under another name: XLM-RoBERTa and CamemBERT."""

from __future__ import annotations

from dataclasses import replace

from bertserve.bundle import Head

from bertexport.encoders.bert import BERT_EMBEDDINGS, BERT_LAYER, BERT_SPEC, CLASSIFIER, POOLER
from bertexport.encoders.family import Family, linear, norm

ROBERTA = Family(
    name="roberta",
    spec=replace(BERT_SPEC, padding_id=1),
    prefix="roberta.",
    embeddings=BERT_EMBEDDINGS,
    layer=BERT_LAYER,
    heads={
        Head.EMBEDDING: (),
        Head.POOLER: POOLER,
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
        Head.TOKEN_CLASSIFICATION: (CLASSIFIER,),
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
)


def _named_after_roberta(name: str, classes: str) -> Family:
    """RoBERTa's modules and names under another family's name, with classes that begin otherwise."""
    renamed = {heads: class_name.replace("Roberta", classes) for heads, class_name in ROBERTA.classes.items()}
    return replace(ROBERTA, name=name, classes=renamed)


XLM_ROBERTA = _named_after_roberta("xlm-roberta", "XLMRoberta")
CAMEMBERT = _named_after_roberta("camembert", "Camembert")
