"""DistilBERT: no token types, and names of its own."""

from __future__ import annotations

from bertserve.bundle import Head

from bertexport.encoders.bert import BERT_EMBEDDINGS, BERT_SPEC, CLASSIFIER
from bertexport.encoders.family import LAYER_ACTIVATION, Family, Settings, linear, norm

_BLOCK = "transformer.layer.{layer}"

DISTILBERT = Family(
    name="distilbert",
    spec=BERT_SPEC,
    prefix="distilbert.",
    embeddings={role: module for role, module in BERT_EMBEDDINGS.items() if role != "token_type"},
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
            CLASSIFIER,
        ),
        Head.TOKEN_CLASSIFICATION: (CLASSIFIER,),
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
