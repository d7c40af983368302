"""Response messages read into the records of `results`. Knows nothing of requests or channels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from bertapi.errors import MalformedResponseError
from bertapi.results import (
    Analysis,
    Classification,
    Embedding,
    Embeddings,
    Entity,
    FilledText,
    LabelScore,
    MaskPrediction,
    Model,
    NextSentenceScore,
    ResponseInfo,
    Results,
    TaggedText,
    TaggedToken,
    Timings,
    Token,
    TokenizedText,
    TokenPrediction,
    Vectors,
)
from bertapi.v1 import bert_service_pb2 as pb

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

RecordT = TypeVar("RecordT", bound="DataclassInstance")
ValueT = TypeVar("ValueT", bound=int)

# The wire is little-endian whatever the machine.
ELEMENT_TYPES: dict[int, str] = {pb.VECTOR_TYPE_FLOAT32: "<f4", pb.VECTOR_TYPE_FLOAT16: "<f2"}


def read_embeddings(response: pb.EmbedResponse) -> Embeddings:
    return Embeddings(tuple(map(_embedding, response.embeddings)), read_info(response.info))


def read_filled_texts(response: pb.FillMaskResponse) -> Results[FilledText]:
    return Results(tuple(map(_filled_text, response.results)), read_info(response.info))


def read_next_sentence_scores(response: pb.ScoreNextSentenceResponse) -> Results[NextSentenceScore]:
    return Results(_records(NextSentenceScore, response.scores), read_info(response.info))


def read_analyses(response: pb.AnalyzeResponse) -> Results[Analysis]:
    return Results(tuple(map(read_analysis, response.analyses)), read_info(response.info))


def read_classifications(response: pb.ClassifyResponse) -> Results[Classification]:
    return Results(tuple(map(_classification, response.results)), read_info(response.info))


def read_tagged_texts(response: pb.TagTokensResponse) -> Results[TaggedText]:
    return Results(tuple(map(_tagged_text, response.results)), read_info(response.info))


def read_tokenized_texts(response: pb.TokenizeResponse) -> Results[TokenizedText]:
    texts = (_record(TokenizedText, text, tokens=_records(Token, text.tokens)) for text in response.results)
    return Results(tuple(texts), read_info(response.info))


def read_model(response: pb.GetModelResponse) -> Model:
    return _model(response.model)


def read_models(response: pb.ListModelsResponse) -> tuple[Model, ...]:
    return tuple(map(_model, response.models))


def read_tensor(tensor: pb.Tensor) -> Vectors:
    """The array of a tensor, read-only, in its shape and in the machine's byte order.

    Raises MalformedResponseError where the type is none that this client knows, or the bytes do not fill the shape.
    """
    element_type = ELEMENT_TYPES.get(tensor.type)
    if element_type is None:
        raise MalformedResponseError(f"a tensor of vector type {tensor.type}, which this client does not know")
    shape, dtype = tuple(tensor.shape), np.dtype(element_type)
    if len(tensor.data) != math.prod(shape) * dtype.itemsize:
        raise MalformedResponseError(f"a tensor of {len(tensor.data)} bytes for shape {shape} of {dtype.name}")
    array = np.frombuffer(tensor.data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array


def _embedding(message: pb.Embedding) -> Embedding:
    return _record(Embedding, message, vectors=read_tensor(message.vectors), tokens=_records(Token, message.tokens))


def _filled_text(message: pb.FilledText) -> FilledText:
    masks = tuple(
        _record(
            MaskPrediction,
            mask,
            predictions=_records(TokenPrediction, mask.predictions),
            targets=_records(TokenPrediction, mask.targets),
        )
        for mask in message.masks
    )
    return _record(FilledText, message, masks=masks)


def _classification(message: pb.Classification) -> Classification:
    return _record(Classification, message, labels=_records(LabelScore, message.labels))


def _tagged_text(message: pb.TaggedText) -> TaggedText:
    tokens = tuple(
        TaggedToken(token=_record(Token, tagged.token), label=_record(LabelScore, tagged.label))
        for tagged in message.tokens
    )
    return _record(TaggedText, message, tokens=tokens, entities=_records(Entity, message.entities))


def read_analysis(message: pb.Analysis) -> Analysis:
    return Analysis(
        embedding=_embedding(message.embedding) if message.HasField("embedding") else None,
        fill_mask=_filled_text(message.fill_mask) if message.HasField("fill_mask") else None,
        next_sentence=_record(NextSentenceScore, message.next_sentence) if message.HasField("next_sentence") else None,
        classification=_classification(message.classification) if message.HasField("classification") else None,
        tags=_tagged_text(message.tags) if message.HasField("tags") else None,
    )


def _model(message: pb.Model) -> Model:
    return _record(
        Model,
        message,
        heads=tuple(_enum_name(pb.Head, head) for head in message.heads),
        labels=tuple(message.labels),
        accuracy=dict(message.accuracy),
        default_pooling=_enum_name(pb.Pooling, message.default_pooling),
    )


def _enum_name(enum: _EnumTypeWrapper[ValueT], value: ValueT) -> str:
    """`masked_lm` of HEAD_MASKED_LM; a newer server's value keeps its number."""
    if value not in enum.values():
        return f"unknown_{value}"
    prefix = f"{enum.DESCRIPTOR.name.upper()}_"
    return str(enum.Name(value)).removeprefix(prefix).lower()


def read_info(message: pb.ResponseInfo) -> ResponseInfo:
    timings = message.timings
    return _record(
        ResponseInfo,
        message,
        timings=Timings(
            tokenize_seconds=_seconds(timings.tokenize),
            queue_seconds=_seconds(timings.queue),
            infer_seconds=_seconds(timings.infer),
            finish_seconds=_seconds(timings.finish),
        ),
    )


def _seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9


def _records(record: type[RecordT], messages: Iterable[Message]) -> tuple[RecordT, ...]:
    return tuple(_record(record, message) for message in messages)


def _record(record: type[RecordT], message: Message, **converted: object) -> RecordT:
    """A record whose fields are the message's of the same name, but for those given converted."""
    plain = {field.name: getattr(message, field.name) for field in fields(record) if field.name not in converted}
    return record(**plain, **converted)
