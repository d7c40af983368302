"""From messages to asks, and from the asks' field paths back to the messages'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from bertapi.v1 import bert_service_pb2 as pb

from bertserve.bundle import Pooling
from bertserve.doors.fields import FieldPaths
from bertserve.errors import InvalidInput
from bertserve.tasks.asks import Aggregation, Ask, EmbedAsk, FillMaskAsk, LayerMerge, TagAsk, VectorType
from bertserve.tasks.limits import Limits, check_input_count, check_target_count
from bertserve.tokenizer import Text, Truncation

DEFAULT_TOP_K = 5
# More than any model has, so that a message with millions of them is refused for the first too many.
MOST_LAYERS = 1024

POOLINGS: dict[int, Pooling | None] = {
    pb.POOLING_UNSPECIFIED: None,
    pb.POOLING_NONE: Pooling.NONE,
    pb.POOLING_CLS: Pooling.CLS,
    pb.POOLING_MEAN: Pooling.MEAN,
    pb.POOLING_MAX: Pooling.MAX,
    pb.POOLING_POOLER: Pooling.POOLER,
}
LAYER_MERGES: dict[int, LayerMerge] = {
    pb.LAYER_MERGE_UNSPECIFIED: LayerMerge.CONCAT,
    pb.LAYER_MERGE_CONCAT: LayerMerge.CONCAT,
    pb.LAYER_MERGE_SUM: LayerMerge.SUM,
    pb.LAYER_MERGE_MEAN: LayerMerge.MEAN,
}
VECTOR_TYPES: dict[int, VectorType] = {
    pb.VECTOR_TYPE_UNSPECIFIED: VectorType.FLOAT32,
    pb.VECTOR_TYPE_FLOAT32: VectorType.FLOAT32,
    pb.VECTOR_TYPE_FLOAT16: VectorType.FLOAT16,
}
AGGREGATIONS: dict[int, Aggregation] = {
    pb.AGGREGATION_UNSPECIFIED: Aggregation.NONE,
    pb.AGGREGATION_NONE: Aggregation.NONE,
    pb.AGGREGATION_SIMPLE: Aggregation.SIMPLE,
}
TRUNCATIONS: dict[int, Truncation] = {
    pb.TRUNCATION_UNSPECIFIED: Truncation.ERROR,
    pb.TRUNCATION_ERROR: Truncation.ERROR,
    pb.TRUNCATION_END: Truncation.END,
    pb.TRUNCATION_START: Truncation.START,
}

Meaning = TypeVar("Meaning")


def read_embed(request: pb.EmbedRequest, limits: Limits) -> Ask:
    return Ask(
        inputs=_texts(request.inputs, limits),
        embed=_embed_ask(request.options),
        truncation=_truncation(request.truncation),
    )


def read_fill_mask(request: pb.FillMaskRequest, limits: Limits) -> Ask:
    return Ask(
        inputs=_texts(request.inputs, limits),
        input_targets=_input_targets(request.inputs, limits),
        fill_mask=_fill_mask_ask(request.options, limits),
        truncation=_truncation(request.truncation),
    )


def read_score_next_sentence(request: pb.ScoreNextSentenceRequest, limits: Limits) -> Ask:
    check_input_count(len(request.candidates), limits)
    return Ask(
        inputs=tuple(Text(text=request.first, text_pair=candidate) for candidate in request.candidates),
        next_sentence=True,
        truncation=_truncation(request.truncation),
    )


def read_classify(request: pb.ClassifyRequest, limits: Limits) -> Ask:
    return Ask(inputs=_texts(request.inputs, limits), classify=True, truncation=_truncation(request.truncation))


def read_tag_tokens(request: pb.TagTokensRequest, limits: Limits) -> Ask:
    return Ask(
        inputs=_texts(request.inputs, limits),
        tag_tokens=_tag_ask(request.options),
        truncation=_truncation(request.truncation),
    )


def read_analyze(request: pb.AnalyzeRequest, limits: Limits) -> Ask:
    return _analyze_ask(request.inputs, request.options, request.truncation, limits)


def read_stream_analyze(request: pb.StreamAnalyzeRequest, limits: Limits) -> Ask:
    return _analyze_ask([request.input], request.options, request.truncation, limits)


def read_tokenize(request: pb.TokenizeRequest, limits: Limits) -> Ask:
    return Ask(inputs=_texts(request.inputs, limits), truncation=_truncation(request.truncation))


SAME_PATHS = FieldPaths()
ANALYZE_OPTIONS = (r"^(embed|fill_mask|tag_tokens)\b", r"options.\1")

# What each request calls the fields of an ask. A request that is missing here calls them the same.
FIELD_PATHS: dict[type, FieldPaths] = {
    pb.EmbedRequest: FieldPaths((r"^embed\b", "options")),
    pb.FillMaskRequest: FieldPaths((r"^fill_mask\b", "options")),
    pb.TagTokensRequest: FieldPaths((r"^tag_tokens\b", "options")),
    pb.AnalyzeRequest: FieldPaths(ANALYZE_OPTIONS),
    pb.StreamAnalyzeRequest: FieldPaths((r"^inputs(\[0\])?", "input"), ANALYZE_OPTIONS),
    pb.ScoreNextSentenceRequest: FieldPaths(
        (r"^inputs\[\d+\]\.text$", "first"),
        (r"^inputs(\[\d+\])\.text_pair$", r"candidates\1"),
        (r"^inputs$", "candidates"),
    ),
}


def field_paths(request: object) -> FieldPaths:
    """Return what a request calls the fields of an ask."""
    return FIELD_PATHS.get(type(request), SAME_PATHS)


def _analyze_ask(inputs: Sequence[pb.TextInput], options: pb.AnalyzeOptions, truncation: int, limits: Limits) -> Ask:
    return Ask(
        inputs=_texts(inputs, limits),
        input_targets=_input_targets(inputs, limits),
        embed=_embed_ask(options.embed) if options.HasField("embed") else None,
        fill_mask=_fill_mask_ask(options.fill_mask, limits) if options.HasField("fill_mask") else None,
        next_sentence=options.next_sentence,
        classify=options.classify,
        tag_tokens=_tag_ask(options.tag_tokens) if options.HasField("tag_tokens") else None,
        truncation=_truncation(truncation),
    )


def _texts(inputs: Sequence[pb.TextInput], limits: Limits) -> tuple[Text, ...]:
    # Before they are converted: a message has room for millions of empty inputs.
    check_input_count(len(inputs), limits)
    return tuple(
        Text(text=given.text, text_pair=given.text_pair if given.HasField("text_pair") else None) for given in inputs
    )


def _input_targets(inputs: Sequence[pb.TextInput], limits: Limits) -> tuple[tuple[str, ...], ...]:
    for index, given in enumerate(inputs):
        check_target_count(len(given.targets), f"inputs[{index}].targets", limits)
    return tuple(tuple(given.targets) for given in inputs)


def _embed_ask(options: pb.EmbedOptions) -> EmbedAsk:
    return EmbedAsk(
        pooling=_meaning(POOLINGS, options.pooling, "embed.pooling"),
        layers=tuple(options.layers[:MOST_LAYERS]),
        layer_merge=_meaning(LAYER_MERGES, options.layer_merge, "embed.layer_merge"),
        normalize=options.normalize if options.HasField("normalize") else None,
        vector_type=_meaning(VECTOR_TYPES, options.vector_type, "embed.vector_type"),
        include_tokens=options.include_tokens,
    )


def _fill_mask_ask(options: pb.FillMaskOptions, limits: Limits) -> FillMaskAsk:
    check_target_count(len(options.targets), "fill_mask.targets", limits)
    return FillMaskAsk(
        top_k=options.top_k if options.HasField("top_k") else DEFAULT_TOP_K, targets=tuple(options.targets)
    )


def _tag_ask(options: pb.TagOptions) -> TagAsk:
    return TagAsk(aggregation=_meaning(AGGREGATIONS, options.aggregation, "tag_tokens.aggregation"))


def _truncation(value: int) -> Truncation:
    return _meaning(TRUNCATIONS, value, "truncation")


def _meaning(meanings: dict[int, Meaning], value: int, path: str) -> Meaning:
    if value not in meanings:
        raise InvalidInput(path, f"{value} is not a value of its enum")
    return meanings[value]
