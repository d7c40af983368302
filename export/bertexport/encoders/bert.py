"""BERT, and what families that follow it share with it."""

from __future__ import annotations

from bertserve.bundle import Head

from bertexport.encoders.family import LAYER_ACTIVATION, Family, Step, linear, norm, table
from bertexport.encoders.spec import EncoderSpec, FeedForward, Keys, LayerWeights, NormOrder, Positions, Span

BERT_SPEC = EncoderSpec(
    positions=Positions.TABLE,
    norm_order=NormOrder.AFTER,
    feed_forward=FeedForward.PLAIN,
    span=Span.ALL,
    keys=Keys.ALL,
    layer_weights=LayerWeights.OWN,
)

_LAYER = "encoder.layer.{layer}"
BERT_EMBEDDINGS = {
    "word": table("embeddings.word_embeddings", "vocabulary"),
    "token_type": table("embeddings.token_type_embeddings", "token_types"),
    "position": table("embeddings.position_embeddings", "positions"),
    "embedding_norm": norm("embeddings.LayerNorm", "embedding"),
}
BERT_LAYER = {
    "query": linear(f"{_LAYER}.attention.self.query", "hidden", "hidden"),
    "key": linear(f"{_LAYER}.attention.self.key", "hidden", "hidden"),
    "value": linear(f"{_LAYER}.attention.self.value", "hidden", "hidden"),
    "projection": linear(f"{_LAYER}.attention.output.dense", "hidden", "hidden"),
    "attention_norm": norm(f"{_LAYER}.attention.output.LayerNorm"),
    "up": linear(f"{_LAYER}.intermediate.dense", "intermediate", "hidden"),
    "down": linear(f"{_LAYER}.output.dense", "hidden", "intermediate"),
    "output_norm": norm(f"{_LAYER}.output.LayerNorm"),
}
CLASSIFIER = linear("classifier", "labels", "hidden")
POOLER: tuple[Step, ...] = (linear("pooler.dense", "hidden", "hidden"), "tanh")

BERT = Family(
    name="bert",
    spec=BERT_SPEC,
    prefix="bert.",
    embeddings=BERT_EMBEDDINGS,
    layer=BERT_LAYER,
    heads={
        Head.EMBEDDING: (),
        Head.POOLER: POOLER,
        Head.MASKED_LM: (
            linear("cls.predictions.transform.dense", "hidden", "hidden"),
            LAYER_ACTIVATION,
            norm("cls.predictions.transform.LayerNorm"),
            linear("cls.predictions.decoder", "vocabulary", "hidden"),
        ),
        Head.NEXT_SENTENCE: (*POOLER, linear("cls.seq_relationship", "two", "hidden")),
        Head.SEQUENCE_CLASSIFICATION: (*POOLER, CLASSIFIER),
        Head.TOKEN_CLASSIFICATION: (CLASSIFIER,),
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
