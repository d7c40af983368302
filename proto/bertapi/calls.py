"""Calls of the API as values: the request to send, and how to read its response. Pure; nothing is sent here.

Both clients, and `bertcall`, are thin shells over these functions, whose keyword arguments are the clients' own.
Common to them all: `inputs` is a text, a pair as a tuple of two, a TextInput, or an iterable of these; `truncation`
says what happens to a longer input than the model takes ("error" by default: nothing is lost unasked); `model` names a
served model, empty the client's default; `timeout_seconds` replaces the client's (`math.inf`: none). A list that is
larger than 4 MiB goes in several requests; it is one call for all that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from google.protobuf.message import Message

from bertapi import responses, results
from bertapi.v1 import bert_service_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

Text = str | tuple[str, str] | pb.TextInput
Texts = Text | Iterable[Text]
Truncation = Literal["error", "end", "start"]
Pooling = Literal["none", "cls", "mean", "max", "pooler"]
LayerMerge = Literal["concat", "sum", "mean"]
VectorType = Literal["float32", "float16"]
Aggregation = Literal["none", "simple"]
ResultT_co = TypeVar("ResultT_co", covariant=True)
ValueT = TypeVar("ValueT", bound=int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[ResultT_co]):
    """method: name of the RPC. read: makes the result of its response. timeout_seconds: None for the client's own."""

    method: str
    request: Message
    read: Callable[[Any], ResultT_co]
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """pooling, normalize: None for the model's default. layers: empty for the last; 0 is the embedding layer."""

    pooling: Pooling | None = None
    layers: Iterable[int] = ()
    layer_merge: LayerMerge = "concat"
    normalize: bool | None = None
    vector_type: VectorType = "float32"
    include_tokens: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FillMaskOptions:
    """top_k: predictions per mask, None for the server's default. targets: words to score at every mask."""

    top_k: int | None = None
    targets: Iterable[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions:
    """aggregation: "simple" for entities too, joined by the B- and I- of their tokens' labels."""

    aggregation: Aggregation = "none"


def embed(
    inputs: Texts,
    *,
    pooling: Pooling | None = None,
    layers: Iterable[int] = (),
    layer_merge: LayerMerge = "concat",
    normalize: bool | None = None,
    vector_type: VectorType = "float32",
    include_tokens: bool = False,
    truncation: Truncation = "error",
    model: str = "",
    timeout_seconds: float | None = None,
) -> Call[results.Embeddings]:
    """Contextual vectors: one per input after pooling, one per token with `pooling="none"`; see EmbedOptions."""
    options = EmbedOptions(
        pooling=pooling,
        layers=layers,
        layer_merge=layer_merge,
        normalize=normalize,
        vector_type=vector_type,
        include_tokens=include_tokens,
    )
    request = pb.EmbedRequest(
        model=model, inputs=_text_inputs(inputs), options=_embed_options(options), truncation=_truncation(truncation)
    )
    return Call(method="Embed", request=request, read=responses.read_embeddings, timeout_seconds=timeout_seconds)


def fill_mask(
    inputs: Texts,
    *,
    top_k: int | None = None,
    targets: Iterable[str] = (),
    truncation: Truncation = "error",
    model: str = "",
    timeout_seconds: float | None = None,
) -> Call[results.Results[results.FilledText]]:
    """The likeliest words at every `[MASK]`, and the asked `targets`; see FillMaskOptions."""
    request = pb.FillMaskRequest(
        model=model,
        inputs=_text_inputs(inputs),
        options=_fill_mask_options(FillMaskOptions(top_k=top_k, targets=targets)),
        truncation=_truncation(truncation),
    )
    return Call(method="FillMask", request=request, read=responses.read_filled_texts, timeout_seconds=timeout_seconds)


def score_next_sentence(
    first: str,
    candidates: str | Iterable[str],
    *,
    truncation: Truncation = "error",
    model: str = "",
    timeout_seconds: float | None = None,
) -> Call[results.Results[results.NextSentenceScore]]:
    """How likely each candidate is to follow the first sentence, each by itself."""
    request = pb.ScoreNextSentenceRequest(
        model=model, first=first, candidates=_words(candidates), truncation=_truncation(truncation)
    )
    return Call(
        method="ScoreNextSentence",
        request=request,
        read=responses.read_next_sentence_scores,
        timeout_seconds=timeout_seconds,
    )


def analyze(
    inputs: Texts,
    *,
    embed: EmbedOptions | bool = False,
    fill_mask: FillMaskOptions | bool = False,
    next_sentence: bool = False,
    classify: bool = False,
    tag_tokens: TagOptions | bool = False,
    truncation: Truncation = "error",
    model: str = "",
    timeout_seconds: float | None = None,
) -> Call[results.Results[results.Analysis]]:
    """Any combination of outputs from one pass of the encoder. Where options may stand, True is for their defaults."""
    options = pb.AnalyzeOptions(next_sentence=next_sentence, classify=classify)
    if embed:
        options.embed.CopyFrom(_embed_options(EmbedOptions() if embed is True else embed))
    if fill_mask:
        options.fill_mask.CopyFrom(_fill_mask_options(FillMaskOptions() if fill_mask is True else fill_mask))
    if tag_tokens:
        options.tag_tokens.CopyFrom(_tag_options(TagOptions() if tag_tokens is True else tag_tokens))
    request = pb.AnalyzeRequest(
        model=model, inputs=_text_inputs(inputs), options=options, truncation=_truncation(truncation)
    )
    return Call(method="Analyze", request=request, read=responses.read_analyses, timeout_seconds=timeout_seconds)


def classify(
    inputs: Texts,
    *,
    truncation: Truncation = "error",
    model: str = "",
    timeout_seconds: float | None = None,
) -> Call[results.Results[results.Classification]]:
    """Labels of whole inputs, for models with a sequence-classification head."""
    request = pb.ClassifyRequest(model=model, inputs=_text_inputs(inputs), truncation=_truncation(truncation))
    return Call(
        method="Classify", request=request, read=responses.read_classifications, timeout_seconds=timeout_seconds
    )


def tag_tokens(
    inputs: Texts,
    *,
    aggregation: Aggregation = "none",
    truncation: Truncation = "error",
    model: str = "",
    timeout_seconds: float | None = None,
) -> Call[results.Results[results.TaggedText]]:
    """Labels of tokens, for models with a token-classification head; see TagOptions."""
    request = pb.TagTokensRequest(
        model=model,
        inputs=_text_inputs(inputs),
        options=_tag_options(TagOptions(aggregation=aggregation)),
        truncation=_truncation(truncation),
    )
    return Call(method="TagTokens", request=request, read=responses.read_tagged_texts, timeout_seconds=timeout_seconds)


def tokenize(
    inputs: Texts,
    *,
    truncation: Truncation = "error",
    model: str = "",
    timeout_seconds: float | None = None,
) -> Call[results.Results[results.TokenizedText]]:
    """Tokens exactly as the model would see them."""
    request = pb.TokenizeRequest(model=model, inputs=_text_inputs(inputs), truncation=_truncation(truncation))
    return Call(
        method="Tokenize", request=request, read=responses.read_tokenized_texts, timeout_seconds=timeout_seconds
    )


def get_model(*, model: str = "", timeout_seconds: float | None = None) -> Call[results.Model]:
    """What is served under a name: heads, limits, precision, provenance and measured accuracy."""
    request = pb.GetModelRequest(model=model)
    return Call(method="GetModel", request=request, read=responses.read_model, timeout_seconds=timeout_seconds)


def list_models(*, timeout_seconds: float | None = None) -> Call[tuple[results.Model, ...]]:
    """All that is served."""
    request = pb.ListModelsRequest()
    return Call(method="ListModels", request=request, read=responses.read_models, timeout_seconds=timeout_seconds)


def _text_inputs(inputs: Texts) -> list[pb.TextInput]:
    if isinstance(inputs, str | tuple | pb.TextInput):
        return [text_input(inputs)]
    if isinstance(inputs, bytes):
        raise TypeError("inputs: bytes are no text; decode them first")
    return [text_input(text) for text in inputs]


def text_input(text: Text) -> pb.TextInput:
    match text:
        case str():
            return pb.TextInput(text=text)
        case (str(first), str(second)):
            return pb.TextInput(text=first, text_pair=second)
        case pb.TextInput():
            return text
    raise TypeError(
        f"inputs: a text is a str, a tuple of two, or a TextInput, not {text!r}; several texts go in a list"
    )


def _embed_options(options: EmbedOptions) -> pb.EmbedOptions:
    return pb.EmbedOptions(
        pooling=_enum_value(pb.Pooling, "pooling", options.pooling or "unspecified"),
        layers=options.layers,
        layer_merge=_enum_value(pb.LayerMerge, "layer_merge", options.layer_merge),
        normalize=options.normalize,
        vector_type=_enum_value(pb.VectorType, "vector_type", options.vector_type),
        include_tokens=options.include_tokens,
    )


def _fill_mask_options(options: FillMaskOptions) -> pb.FillMaskOptions:
    return pb.FillMaskOptions(top_k=options.top_k, targets=_words(options.targets))


def _tag_options(options: TagOptions) -> pb.TagOptions:
    return pb.TagOptions(aggregation=_enum_value(pb.Aggregation, "aggregation", options.aggregation))


def _truncation(truncation: Truncation) -> pb.Truncation.ValueType:
    return _enum_value(pb.Truncation, "truncation", truncation)


def _words(words: str | Iterable[str]) -> list[str]:
    """A lone word is one word, not its letters."""
    return [words] if isinstance(words, str) else list(words)


def _enum_value(enum: _EnumTypeWrapper[ValueT], argument: str, name: str) -> ValueT:
    """POOLING_MEAN of `mean`. The argument's name is the enum's prefix too."""
    prefix = f"{argument}_".upper()
    known = {key.removeprefix(prefix).lower(): value for key, value in enum.items()}
    if name not in known:
        raise ValueError(f"{argument}: {name!r} is none of {', '.join(list(known)[1:])}")
    return known[name]
