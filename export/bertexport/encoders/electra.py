"""ELECTRA: embeddings may be narrower than the layers."""

from __future__ import annotations

from bertserve.bundle import Head

from bertexport.encoders.bert import BERT_EMBEDDINGS, BERT_LAYER, BERT_SPEC, CLASSIFIER
from bertexport.encoders.family import Family, linear, norm

# The discriminator's own head, which tells replaced tokens, answers no method; the generator's predicts masked words.
ELECTRA = Family(
    name="electra",
    spec=BERT_SPEC,
    prefix="electra.",
    embeddings=BERT_EMBEDDINGS,
    layer=BERT_LAYER,
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
        Head.TOKEN_CLASSIFICATION: (CLASSIFIER,),
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
