"""From the engine's outputs to answers: pooling, merging, normalising, probabilities. Pure numpy; no model runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bertserve.bundle import LabelActivation, ModelFacts, Pooling, ProblemType
from bertserve.engine.items import Float32s, ItemOutputs
from bertserve.models import ServedModel
from bertserve.tasks.answers import (
    Analysis,
    Embedding,
    FilledMask,
    LabelScore,
    NextSentence,
    Prediction,
    TaggedText,
    TaggedToken,
)
from bertserve.tasks.asks import Aggregation, EmbedAsk, LayerMerge, TagAsk, VectorType
from bertserve.tasks.entities import group_entities
from bertserve.tasks.prepare import EmbedPlan, Prepared
from bertserve.tokenizer import Text, Token, TokenizedText, Tokenizer


def finish_item(model: ServedModel, prepared: Prepared, index: int, outputs: ItemOutputs) -> Analysis:
    """What was asked of one input. Holds no part of the outputs, which are views of a whole batch's."""
    text = prepared.texts[index]
    ask, wanted = prepared.ask, prepared.items[index].wanted
    return Analysis(
        token_count=len(text),
        truncated=text.truncated,
        embedding=_embedding(prepared.embed, ask.embed, text, outputs) if prepared.embed and ask.embed else None,
        filled_masks=(
            _filled_masks(model.tokenizer, text, outputs, wanted.target_ids) if ask.fill_mask is not None else None
        ),
        next_sentence=(
            score_next_sentence(outputs.next_sentence_logits) if outputs.next_sentence_logits is not None else None
        ),
        labels=score_labels(model.facts, outputs.class_logits) if outputs.class_logits is not None else None,
        tags=(
            _tagged_text(model.facts, ask.tag_tokens, ask.inputs[index], text, outputs.tag_logits)
            if ask.tag_tokens is not None and outputs.tag_logits is not None
            else None
        ),
    )


def _embedding(plan: EmbedPlan, ask: EmbedAsk, text: TokenizedText, outputs: ItemOutputs) -> Embedding:
    if outputs.pooled is not None:
        vectors = outputs.pooled
    else:
        vectors = pool(merge_layers([outputs.layers[layer] for layer in plan.layers], plan.layer_merge), plan.pooling)
    if plan.normalize:
        vectors = normalize(vectors)
    return Embedding(
        vectors=np.array(vectors, dtype=np.float16 if ask.vector_type is VectorType.FLOAT16 else np.float32),
        tokens=text.tokens if ask.include_tokens else (),
    )


def merge_layers(layers: list[Float32s], merge: LayerMerge) -> Float32s:
    """[length, hidden] per layer → [length, size]; size = hidden × layers for CONCAT."""
    if len(layers) == 1:
        return layers[0]
    if merge is LayerMerge.CONCAT:
        return np.concatenate(layers, axis=-1)
    total: Float32s = np.sum(layers, axis=0, dtype=np.float32)
    return total if merge is LayerMerge.SUM else np.divide(total, np.float32(len(layers)))


def pool(vectors: Float32s, pooling: Pooling) -> Float32s:
    """[length, size] → [size], or as it is for NONE. Special tokens count, as in sentence-transformers."""
    pooled: Float32s = vectors
    match pooling:
        case Pooling.CLS:
            pooled = vectors[0]
        case Pooling.MEAN:
            pooled = vectors.mean(axis=0, dtype=np.float32)
        case Pooling.MAX:
            pooled = vectors.max(axis=0)
    return pooled


def normalize(vectors: Float32s) -> Float32s:
    """Scale each vector to unit Euclidean length; a zero vector stays one."""
    lengths: Float32s = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, np.maximum(lengths, np.float32(1e-12)))


def score_next_sentence(logits: Float32s) -> NextSentence:
    """logits: [2], is next first (Devlin et al. 2018; label 0 of `transformers` means: follows)."""
    return NextSentence(
        probability=float(softmax(logits)[0]), is_next_logit=float(logits[0]), not_next_logit=float(logits[1])
    )


def score_labels(facts: ModelFacts, logits: Float32s) -> tuple[LabelScore, ...]:
    """All labels of a sequence-classification head, by descending logit. logits: [labels]."""
    probabilities = _probabilities(facts.problem_type, logits)
    scores = _scores(facts, logits, probabilities)
    return tuple(
        LabelScore(
            label=facts.labels[index],
            index=index,
            probability=float(probabilities[index]),
            logit=float(logits[index]),
            score=float(scores[index]),
        )
        for index in np.argsort(-logits, kind="stable").tolist()
    )


def _probabilities(problem_type: ProblemType | None, logits: Float32s) -> NDArray[np.float64]:
    match problem_type:
        case ProblemType.SINGLE_LABEL:
            return softmax(logits)
        case ProblemType.MULTI_LABEL:
            return sigmoid(logits)
    return np.zeros_like(logits, dtype=np.float64)


def _scores(facts: ModelFacts, logits: Float32s, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logits through the stated activation; without one the probabilities, and a regression's own numbers."""
    match facts.label_activation:
        case LabelActivation.IDENTITY:
            return logits.astype(np.float64)
        case LabelActivation.SIGMOID:
            return sigmoid(logits)
        case LabelActivation.SOFTMAX:
            return softmax(logits)
        case LabelActivation.TANH:
            return np.tanh(logits.astype(np.float64))
    return logits.astype(np.float64) if facts.problem_type is ProblemType.REGRESSION else probabilities


def tag_tokens(facts: ModelFacts, tokens: Sequence[Token], logits: Float32s) -> tuple[TaggedToken, ...]:
    """The likeliest label of every token that is not special. logits: [tokens, labels]."""
    probabilities, best = softmax(logits), logits.argmax(axis=-1)
    rows = range(len(tokens))
    scores = zip(best.tolist(), probabilities[rows, best].tolist(), logits[rows, best].tolist(), strict=True)
    return tuple(
        TaggedToken(
            token=token,
            label=LabelScore(
                label=facts.labels[index], index=index, probability=probability, logit=logit, score=probability
            ),
        )
        for token, (index, probability, logit) in zip(tokens, scores, strict=True)
        if not token.special
    )


def sigmoid(logits: Float32s) -> NDArray[np.float64]:
    """In double precision, of each value."""
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def softmax(logits: Float32s) -> NDArray[np.float64]:
    """In double precision, over the last axis."""
    shifted: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def _tagged_text(facts: ModelFacts, ask: TagAsk, given: Text, text: TokenizedText, logits: Float32s) -> TaggedText:
    tagged = tag_tokens(facts, text.tokens, logits)
    entities = group_entities(tagged, given) if ask.aggregation is Aggregation.SIMPLE else ()
    return TaggedText(tokens=tagged, entities=entities)


def _filled_masks(
    tokenizer: Tokenizer, text: TokenizedText, outputs: ItemOutputs, target_ids: tuple[int, ...]
) -> tuple[FilledMask, ...]:
    top_ids, top, targets = (
        array.tolist() if array is not None else []
        for array in (outputs.mask_top_ids, outputs.mask_top_log_probabilities, outputs.target_log_probabilities)
    )
    filled = []
    for number, position in enumerate(text.mask_positions):
        place = text.token(position)
        filled.append(
            FilledMask(
                token_index=position,
                segment=place.segment,
                start=place.start,
                end=place.end,
                predictions=_predictions(tokenizer, top_ids[number], top[number]),
                targets=_predictions(tokenizer, target_ids, targets[number]),
            )
        )
    return tuple(filled)


def _predictions(
    tokenizer: Tokenizer, token_ids: list[int] | tuple[int, ...], log_probabilities: list[float]
) -> tuple[Prediction, ...]:
    return tuple(
        Prediction(
            token=tokenizer.token_text(token_id),
            token_id=token_id,
            text=tokenizer.word(token_id),
            log_probability=log_probability,
        )
        for token_id, log_probability in zip(token_ids, log_probabilities, strict=True)
    )
