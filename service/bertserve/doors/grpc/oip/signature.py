"""Which tensors a bundle takes and gives: what its heads can compute, but for what varies with the tokens of a text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bertserve.bundle import Head, ModelFacts


class Datatype(StrEnum):
    """The protocol's name of an element's type."""

    BYTES = "BYTES"
    FP32 = "FP32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """dims: of one text's share, -1 where they vary; the tensor itself has the number of texts before them."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]


# Of every model: another bundle is another model, or another server.
VERSION = "1"

TEXT = "text"
TEXT_PAIR = "text_pair"

EMBEDDING = "embedding"
MASK_TOKENS = "mask_tokens"
MASK_LOG_PROBABILITIES = "mask_log_probabilities"
NEXT_SENTENCE_PROBABILITY = "next_sentence_probability"
LABEL_LOGITS = "label_logits"
LABEL_PROBABILITIES = "label_probabilities"
LABEL_SCORES = "label_scores"

# The second one may be left out.
INPUTS = (
    Tensor(name=TEXT, datatype=Datatype.BYTES, dims=(1,)),
    Tensor(name=TEXT_PAIR, datatype=Datatype.BYTES, dims=(1,)),
)


def outputs_of(facts: ModelFacts) -> tuple[Tensor, ...]:
    """What a bundle can be asked for.

    embedding: [texts, size]. mask_tokens, mask_log_probabilities: [texts, masks, k], best first.
    next_sentence_probability: [texts, 1]. label_logits, label_probabilities, label_scores: [texts, labels], in the
    labels' order.
    """
    labels = (len(facts.labels),)
    outputs = {
        Head.EMBEDDING: (Tensor(name=EMBEDDING, datatype=Datatype.FP32, dims=(-1,)),),
        Head.MASKED_LM: (
            Tensor(name=MASK_TOKENS, datatype=Datatype.BYTES, dims=(-1, -1)),
            Tensor(name=MASK_LOG_PROBABILITIES, datatype=Datatype.FP32, dims=(-1, -1)),
        ),
        Head.NEXT_SENTENCE: (Tensor(name=NEXT_SENTENCE_PROBABILITY, datatype=Datatype.FP32, dims=(1,)),),
        Head.SEQUENCE_CLASSIFICATION: (
            Tensor(name=LABEL_LOGITS, datatype=Datatype.FP32, dims=labels),
            Tensor(name=LABEL_PROBABILITIES, datatype=Datatype.FP32, dims=labels),
            Tensor(name=LABEL_SCORES, datatype=Datatype.FP32, dims=labels),
        ),
    }
    return tuple(tensor for head in facts.heads for tensor in outputs.get(head, ()))
