"""From tensors to asks, and from the asks' field paths back to the tensors'."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bertapi.oip import inference_pb2 as pb

from bertserve.doors.fields import FieldPaths
from bertserve.doors.grpc.oip.parameters import OF_HTTP, Parameters
from bertserve.doors.grpc.oip.signature import (
    EMBEDDING,
    INPUTS,
    LABEL_LOGITS,
    LABEL_PROBABILITIES,
    LABEL_SCORES,
    MASK_LOG_PROBABILITIES,
    MASK_TOKENS,
    NEXT_SENTENCE_PROBABILITY,
    TEXT,
    TEXT_PAIR,
    Datatype,
    outputs_of,
)
from bertserve.doors.grpc.oip.tensors import MalformedTensor, read_strings
from bertserve.errors import InvalidInput
from bertserve.models import ServedModel
from bertserve.tasks.asks import Ask, FillMaskAsk
from bertserve.tasks.limits import Limits, check_input_count
from bertserve.tokenizer import Text

InputTensor = pb.ModelInferRequest.InferInputTensor
OutputTensor = pb.ModelInferRequest.InferRequestedOutputTensor

# `text[17]`, `parameters[top_k]`.
FIELD_PATHS = FieldPaths(
    (r"^inputs(\[\d+\])\.(text|text_pair)$", r"\2\1"),
    (r"^inputs$", TEXT),
    (r"^(?:embed|fill_mask)\.(\w+)(?:\[\d+\])?$", r"parameters[\1]"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What a ModelInfer request comes to. outputs: names of tensors, in the order asked for. timeout_seconds: the
    request's own; None = none."""

    ask: Ask
    outputs: tuple[str, ...]
    timeout_seconds: float | None


def read_inference(request: pb.ModelInferRequest, model: ServedModel, limits: Limits) -> Inference:
    """Which outputs are asked for says which heads run. Raises InvalidInput in the caller's terms.

    Clients such as perf_analyzer ask for every output of a model. So an output that an input has nothing of is padding
    (see `responses`) where others are asked for beside it, and an error, as in the typed API, where it stands alone.
    """
    texts = _read_texts(request, limits)
    outputs = _read_outputs(request.outputs, model)
    parameters = Parameters(request.parameters)
    embeds = EMBEDDING in outputs
    classifies = any(name in outputs for name in (LABEL_LOGITS, LABEL_PROBABILITIES, LABEL_SCORES))
    fills = MASK_TOKENS in outputs or MASK_LOG_PROBABILITIES in outputs
    can_score = texts[0].text_pair is not None or not (embeds or classifies or fills)
    scores = NEXT_SENTENCE_PROBABILITY in outputs and can_score
    embed = parameters.embed(model.facts.default_pooling)
    fill_mask = FillMaskAsk(top_k=parameters.top_k(), optional=embeds or classifies or scores)
    return Inference(
        ask=Ask(
            inputs=texts,
            embed=embed if embeds else None,
            fill_mask=fill_mask if fills else None,
            next_sentence=scores,
            classify=classifies,
            truncation=parameters.truncation(),
        ),
        outputs=outputs,
        timeout_seconds=parameters.timeout_seconds(),
    )


def _read_outputs(asked: Sequence[OutputTensor], model: ServedModel) -> tuple[str, ...]:
    names = tuple(tensor.name for tensor in outputs_of(model.facts))
    if len(asked) > len(names):
        raise InvalidInput("outputs", f"{len(asked)} of them, the model has {len(names)}")
    for index, output in enumerate(asked):
        if output.name not in names:
            raise InvalidInput(f"outputs[{index}].name", f"no such output; the model has {', '.join(names)}")
        if not output.parameters.keys() <= OF_HTTP:
            raise InvalidInput(f"outputs[{index}].parameters", "none is known; neither shared memory nor classes")
    return tuple(dict.fromkeys(output.name for output in asked)) or names


def _read_texts(request: pb.ModelInferRequest, limits: Limits) -> tuple[Text, ...]:
    places = _find_inputs(request.inputs)
    if request.raw_input_contents and len(request.raw_input_contents) != len(request.inputs):
        count = len(request.raw_input_contents)
        raise InvalidInput("raw_input_contents", f"{count} of them, for {len(request.inputs)} inputs")
    if TEXT not in places:
        raise InvalidInput(TEXT, "is missing; this input holds the texts")
    texts = _read_strings(request, places[TEXT], limits)
    pairs = _read_strings(request, places[TEXT_PAIR], limits) if TEXT_PAIR in places else [None] * len(texts)
    if len(pairs) != len(texts):
        raise InvalidInput(TEXT_PAIR, f"{len(pairs)} elements, for {len(texts)} of {TEXT}")
    return tuple(Text(text=text, text_pair=pair) for text, pair in zip(texts, pairs, strict=True))


def _find_inputs(inputs: Sequence[InputTensor]) -> dict[str, int]:
    """Name → index of the input tensors, each of which must be known, and there once."""
    names = [tensor.name for tensor in INPUTS]
    places: dict[str, int] = {}
    for index, given in enumerate(inputs):
        if given.name not in names:
            raise InvalidInput(f"inputs[{index}].name", f"no such input; the model has {', '.join(names)}")
        if given.name in places:
            raise InvalidInput(f"inputs[{index}].name", "is there twice")
        if not given.parameters.keys() <= OF_HTTP:
            raise InvalidInput(f"inputs[{index}].parameters", "none is known; no shared memory")
        places[given.name] = index
    return places


def _read_strings(request: pb.ModelInferRequest, index: int, limits: Limits) -> list[str]:
    """The elements of an input, [n] or [n, 1], from whichever of its two places holds them."""
    given = request.inputs[index]
    if given.datatype != Datatype.BYTES:
        raise InvalidInput(f"inputs[{index}].datatype", f"must be {Datatype.BYTES}")
    count = _element_count(given.shape, f"inputs[{index}].shape")
    check_input_count(count, limits)
    if request.raw_input_contents:
        if given.HasField("contents"):
            raise InvalidInput(f"inputs[{index}].contents", "must be empty beside raw_input_contents")
        try:
            elements: Sequence[bytes] = read_strings(request.raw_input_contents[index], count)
        except MalformedTensor as error:
            raise InvalidInput(f"raw_input_contents[{index}]", str(error)) from None
    else:
        elements = given.contents.bytes_contents
        if any(field.name != "bytes_contents" for field, _ in given.contents.ListFields()):
            raise InvalidInput(f"inputs[{index}].contents", "must hold bytes_contents alone")
        if len(elements) != count:
            raise InvalidInput(f"inputs[{index}].contents", f"{len(elements)} bytes_contents, its shape says {count}")
    return [_decode(element, f"{given.name}[{place}]") for place, element in enumerate(elements)]


def _element_count(shape: Sequence[int], path: str) -> int:
    if not 1 <= len(shape) <= 2 or any(size != 1 for size in shape[1:]) or shape[0] < 0:
        raise InvalidInput(path, "must be [n] or [n, 1]")
    return math.prod(shape)


def _decode(element: bytes, path: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise InvalidInput(path, "is not UTF-8") from None
