"""From answers to messages."""

from __future__ import annotations

import math

import numpy as np
from bertapi.v1 import bert_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from bertserve.bundle import Head, Pooling
from bertserve.doors.grpc.statuses import find_code
from bertserve.doors.statuses import INTERNAL_TEXT
from bertserve.errors import InvalidInput, RequestError
from bertserve.models import ServedModel
from bertserve.tasks.analysis import Answer, TokenizeAnswer
from bertserve.tasks.answers import (
    Analysis,
    Embedding,
    Entity,
    FilledMask,
    LabelScore,
    Prediction,
    TaggedToken,
    Timings,
)
from bertserve.tasks.limits import Limits
from bertserve.tokenizer import Token

HEADS = {
    Head.EMBEDDING: pb.HEAD_EMBEDDING,
    Head.POOLER: pb.HEAD_POOLER,
    Head.MASKED_LM: pb.HEAD_MASKED_LM,
    Head.NEXT_SENTENCE: pb.HEAD_NEXT_SENTENCE,
    Head.SEQUENCE_CLASSIFICATION: pb.HEAD_SEQUENCE_CLASSIFICATION,
    Head.TOKEN_CLASSIFICATION: pb.HEAD_TOKEN_CLASSIFICATION,
}
POOLINGS = {
    Pooling.NONE: pb.POOLING_NONE,
    Pooling.CLS: pb.POOLING_CLS,
    Pooling.MEAN: pb.POOLING_MEAN,
    Pooling.MAX: pb.POOLING_MAX,
    Pooling.POOLER: pb.POOLING_POOLER,
}


def write_embed(model: ServedModel, answer: Answer) -> pb.EmbedResponse:
    return pb.EmbedResponse(
        embeddings=[_embedding(analysis) for analysis in answer.analyses], info=_info(model, answer.timings)
    )


def write_fill_mask(model: ServedModel, answer: Answer) -> pb.FillMaskResponse:
    return pb.FillMaskResponse(
        results=[_filled_text(analysis) for analysis in answer.analyses], info=_info(model, answer.timings)
    )


def write_score_next_sentence(model: ServedModel, answer: Answer) -> pb.ScoreNextSentenceResponse:
    return pb.ScoreNextSentenceResponse(
        scores=[_next_sentence(analysis) for analysis in answer.analyses], info=_info(model, answer.timings)
    )


def write_classify(model: ServedModel, answer: Answer) -> pb.ClassifyResponse:
    return pb.ClassifyResponse(
        results=[_classification(analysis) for analysis in answer.analyses], info=_info(model, answer.timings)
    )


def write_tag_tokens(model: ServedModel, answer: Answer) -> pb.TagTokensResponse:
    return pb.TagTokensResponse(
        results=[_tagged_text(analysis) for analysis in answer.analyses], info=_info(model, answer.timings)
    )


def write_analyze(model: ServedModel, answer: Answer) -> pb.AnalyzeResponse:
    return pb.AnalyzeResponse(
        analyses=[_analysis(analysis) for analysis in answer.analyses], info=_info(model, answer.timings)
    )


def write_stream_analysis(model: ServedModel, request_id: str, answer: Answer) -> pb.StreamAnalyzeResponse:
    return pb.StreamAnalyzeResponse(
        id=request_id, analysis=_analysis(answer.analyses[0]), info=_info(model, answer.timings)
    )


def write_item_error(request_id: str, error: Exception) -> pb.StreamAnalyzeResponse:
    """Why one input of a stream failed; what no caller is told, with the fixed text."""
    if isinstance(error, InvalidInput):
        field, text = error.violation.field, error.violation.description
    else:
        field, text = "", str(error) if isinstance(error, RequestError) else INTERNAL_TEXT
    code = find_code(error).value[0]
    return pb.StreamAnalyzeResponse(id=request_id, error=pb.ItemError(code=code, message=text, field=field))


def write_tokenize(model: ServedModel, answer: TokenizeAnswer) -> pb.TokenizeResponse:
    results = [
        pb.TokenizedText(tokens=[_token(token) for token in text.tokens], truncated=text.truncated)
        for text in answer.texts
    ]
    return pb.TokenizeResponse(results=results, info=_info(model, answer.timings))


def write_model(model: ServedModel, limits: Limits) -> pb.Model:
    """What is served under a name, with the server's limits beside it."""
    facts, manifest = model.facts, model.bundle.manifest
    return pb.Model(
        name=model.name,
        bundle_id=manifest.bundle_id,
        source=manifest.source.model,
        revision=manifest.source.revision,
        architecture=manifest.source.architecture,
        family=facts.family,
        heads=[HEADS[head] for head in facts.heads],
        hidden_size=facts.hidden_size,
        layer_count=facts.layer_count,
        vocabulary_size=facts.vocabulary_size,
        max_tokens=facts.max_tokens,
        mask_token=facts.special_tokens.mask.text if facts.special_tokens.mask is not None else "",
        labels=facts.labels,
        precision=facts.precision,
        accuracy=manifest.accuracy,
        max_inputs=limits.max_inputs,
        max_characters=limits.max_characters,
        max_top_k=min(limits.max_top_k, facts.vocabulary_size),
        max_response_bytes=limits.max_response_bytes,
        default_pooling=POOLINGS[facts.default_pooling],
        default_normalize=facts.default_normalize,
        loaded_bytes=model.loaded_bytes,
        longest_text_bytes=model.longest_text_bytes,
    )


def _analysis(analysis: Analysis) -> pb.Analysis:
    return pb.Analysis(
        embedding=_embedding(analysis) if analysis.embedding is not None else None,
        fill_mask=_filled_text(analysis) if analysis.filled_masks is not None else None,
        next_sentence=_next_sentence(analysis) if analysis.next_sentence is not None else None,
        classification=_classification(analysis) if analysis.labels is not None else None,
        tags=_tagged_text(analysis) if analysis.tags is not None else None,
    )


def _embedding(analysis: Analysis) -> pb.Embedding:
    embedding: Embedding | None = analysis.embedding
    if embedding is None:
        return pb.Embedding()
    return pb.Embedding(
        vectors=_tensor(embedding.vectors),
        tokens=[_token(token) for token in embedding.tokens],
        token_count=analysis.token_count,
        truncated=analysis.truncated,
    )


def _tensor(array: NDArray[np.floating]) -> pb.Tensor:
    is_half = array.dtype == np.float16
    return pb.Tensor(
        shape=array.shape,
        type=pb.VECTOR_TYPE_FLOAT16 if is_half else pb.VECTOR_TYPE_FLOAT32,
        data=np.ascontiguousarray(array, dtype="<f2" if is_half else "<f4").tobytes(),
    )


def _token(token: Token) -> pb.Token:
    return pb.Token(
        text=token.text,
        id=token.id,
        segment=token.segment,
        start=token.start,
        end=token.end,
        special=token.special,
    )


def _filled_text(analysis: Analysis) -> pb.FilledText:
    return pb.FilledText(
        masks=[_mask(mask) for mask in analysis.filled_masks or ()],
        token_count=analysis.token_count,
        truncated=analysis.truncated,
    )


def _mask(mask: FilledMask) -> pb.MaskPrediction:
    return pb.MaskPrediction(
        token_index=mask.token_index,
        segment=mask.segment,
        start=mask.start,
        end=mask.end,
        predictions=[_prediction(prediction) for prediction in mask.predictions],
        targets=[_prediction(prediction) for prediction in mask.targets],
    )


def _prediction(prediction: Prediction) -> pb.TokenPrediction:
    return pb.TokenPrediction(
        token=prediction.token,
        token_id=prediction.token_id,
        log_probability=prediction.log_probability,
        probability=math.exp(prediction.log_probability),
        text=prediction.text,
    )


def _next_sentence(analysis: Analysis) -> pb.NextSentenceScore:
    score = analysis.next_sentence
    if score is None:
        return pb.NextSentenceScore()
    return pb.NextSentenceScore(
        probability=score.probability,
        is_next_logit=score.is_next_logit,
        not_next_logit=score.not_next_logit,
        token_count=analysis.token_count,
        truncated=analysis.truncated,
    )


def _classification(analysis: Analysis) -> pb.Classification:
    return pb.Classification(
        labels=[_label_score(label) for label in analysis.labels or ()],
        token_count=analysis.token_count,
        truncated=analysis.truncated,
    )


def _tagged_text(analysis: Analysis) -> pb.TaggedText:
    tags = analysis.tags
    if tags is None:
        return pb.TaggedText()
    return pb.TaggedText(
        tokens=[_tagged_token(tagged) for tagged in tags.tokens],
        entities=[_entity(entity) for entity in tags.entities],
        truncated=analysis.truncated,
    )


def _tagged_token(tagged: TaggedToken) -> pb.TaggedToken:
    return pb.TaggedToken(token=_token(tagged.token), label=_label_score(tagged.label))


def _entity(entity: Entity) -> pb.Entity:
    return pb.Entity(
        label=entity.label,
        probability=entity.probability,
        segment=entity.segment,
        start=entity.start,
        end=entity.end,
        text=entity.text,
    )


def _label_score(label: LabelScore) -> pb.LabelScore:
    return pb.LabelScore(
        label=label.label, index=label.index, probability=label.probability, logit=label.logit, score=label.score
    )


def _info(model: ServedModel, timings: Timings) -> pb.ResponseInfo:
    info = pb.ResponseInfo(model=model.name, bundle_id=model.bundle.manifest.bundle_id)
    # Set where they stand: messages that are made first, and copied into others, take twice as long.
    _set_duration(info.timings.tokenize, timings.tokenize_seconds)
    _set_duration(info.timings.queue, timings.queue_seconds)
    _set_duration(info.timings.infer, timings.infer_seconds)
    _set_duration(info.timings.finish, timings.finish_seconds)
    return info


def _set_duration(duration: Duration, seconds: float) -> None:
    duration.seconds = int(seconds)
    duration.nanos = int(seconds % 1 * 1e9)
