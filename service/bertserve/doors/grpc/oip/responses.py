"""From answers to tensors. Rows are texts, in the order of the inputs.

Texts hold different numbers of masks: each gets as many as the one with most, its own first. Where a text has nothing,
be it a mask or the pair that a next-sentence score needs, tokens are empty and numbers are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from bertapi.oip import inference_pb2 as pb

from bertserve.doors.grpc.oip import signature
from bertserve.doors.grpc.oip.requests import Inference
from bertserve.doors.grpc.oip.signature import VERSION, Datatype
from bertserve.doors.grpc.oip.tensors import write_floats, write_strings
from bertserve.engine.items import Float32s
from bertserve.models import ServedModel
from bertserve.tasks.analysis import Answer
from bertserve.tasks.answers import Analysis, FilledMask, LabelScore


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """An output with its elements. shape: all of it; raw: the elements, coded."""

    datatype: Datatype
    shape: tuple[int, ...]
    raw: bytes


def write_inference(
    request: pb.ModelInferRequest, model: ServedModel, inference: Inference, answer: Answer
) -> pb.ModelInferResponse:
    """Every output that was asked for, in raw contents."""
    filled = {name: WRITERS[name](answer.analyses, inference) for name in inference.outputs}
    return pb.ModelInferResponse(
        model_name=model.name,
        model_version=VERSION,
        id=request.id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name=name, datatype=tensor.datatype, shape=tensor.shape)
            for name, tensor in filled.items()
        ],
        raw_output_contents=[tensor.raw for tensor in filled.values()],
    )


def _embedding(analyses: Sequence[Analysis], _: Inference) -> Filled:
    return _floats(np.stack([analysis.embedding.vectors for analysis in analyses if analysis.embedding is not None]))


def _mask_tokens(analyses: Sequence[Analysis], inference: Inference) -> Filled:
    shape = _mask_shape(analyses, inference)
    _, most, top_k = shape
    elements: list[bytes] = []
    for analysis in analyses:
        masks = analysis.filled_masks or ()
        elements += [prediction.token.encode() for mask in masks for prediction in mask.predictions]
        elements += [b""] * ((most - len(masks)) * top_k)
    return Filled(datatype=Datatype.BYTES, shape=shape, raw=write_strings(elements))


def _mask_log_probabilities(analyses: Sequence[Analysis], inference: Inference) -> Filled:
    array: Float32s = np.full(_mask_shape(analyses, inference), np.nan, dtype=np.float32)
    for row, analysis in zip(array, analyses, strict=True):
        for place, mask in enumerate(analysis.filled_masks or ()):
            row[place] = _log_probabilities(mask)
    return _floats(array)


def _log_probabilities(mask: FilledMask) -> list[float]:
    return [prediction.log_probability for prediction in mask.predictions]


def _mask_shape(analyses: Sequence[Analysis], inference: Inference) -> tuple[int, int, int]:
    """[texts, masks, k]."""
    most = max(len(analysis.filled_masks or ()) for analysis in analyses)
    fill_mask = inference.ask.fill_mask
    return len(analyses), most, fill_mask.top_k if fill_mask is not None else 0


def _next_sentence_probability(analyses: Sequence[Analysis], _: Inference) -> Filled:
    scores = [analysis.next_sentence for analysis in analyses]
    return _floats(np.array([[score.probability if score is not None else np.nan] for score in scores]))


def _label_logits(analyses: Sequence[Analysis], _: Inference) -> Filled:
    return _floats(np.array([[label.logit for label in _in_order(analysis)] for analysis in analyses]))


def _label_probabilities(analyses: Sequence[Analysis], _: Inference) -> Filled:
    return _floats(np.array([[label.probability for label in _in_order(analysis)] for analysis in analyses]))


def _label_scores(analyses: Sequence[Analysis], _: Inference) -> Filled:
    return _floats(np.array([[label.score for label in _in_order(analysis)] for analysis in analyses]))


def _in_order(analysis: Analysis) -> list[LabelScore]:
    return sorted(analysis.labels or (), key=lambda label: label.index)


def _floats(array: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> Filled:
    return Filled(datatype=Datatype.FP32, shape=array.shape, raw=write_floats(array))


WRITERS: dict[str, Callable[[Sequence[Analysis], Inference], Filled]] = {
    signature.EMBEDDING: _embedding,
    signature.MASK_TOKENS: _mask_tokens,
    signature.MASK_LOG_PROBABILITIES: _mask_log_probabilities,
    signature.NEXT_SENTENCE_PROBABILITY: _next_sentence_probability,
    signature.LABEL_LOGITS: _label_logits,
    signature.LABEL_PROBABILITIES: _label_probabilities,
    signature.LABEL_SCORES: _label_scores,
}
