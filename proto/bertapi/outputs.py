"""What `bertcall` asks of Analyze: the outputs that were named, or all that model and texts admit. Sends nothing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertapi import results
from bertapi.calls import EmbedOptions, FillMaskOptions, TagOptions
from bertapi.inputs import InputText

MASK = "[MASK]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What to ask of Analyze; left_out: what the model has and why it is not asked."""

    embed: bool
    fill_mask: bool
    next_sentence: bool
    classify: bool
    tag_tokens: bool
    left_out: tuple[str, ...] = ()


def named_outputs(arguments: Namespace) -> Outputs | None:
    """Those that the command line names; None where it names none."""
    named = Outputs(
        embed=arguments.embed,
        fill_mask=arguments.fill,
        next_sentence=arguments.nsp,
        classify=arguments.classify,
        tag_tokens=arguments.tag,
    )
    asked = named.embed or named.fill_mask or named.next_sentence or named.classify or named.tag_tokens
    return named if asked else None


def choose_outputs(model: results.Model, texts: Sequence[InputText]) -> Outputs:
    """All that the model has and every text admits."""
    masked = all(_holds_mask(text, model.mask_token) for text in texts)
    paired = all(isinstance(text, tuple) for text in texts)
    left_out = []
    if "masked_lm" in model.heads and not masked:
        left_out.append("masked words (not every text has a mask)")
    if "next_sentence" in model.heads and not paired:
        left_out.append("next-sentence scores (not every text is a pair)")
    return Outputs(
        embed=True,
        fill_mask="masked_lm" in model.heads and masked,
        next_sentence="next_sentence" in model.heads and paired,
        classify="sequence_classification" in model.heads,
        tag_tokens="token_classification" in model.heads,
        left_out=tuple(left_out),
    )


def analyze_options(arguments: Namespace, outputs: Outputs) -> dict[str, Any]:
    """Keyword arguments of `calls.analyze` and `streams.stream_analyze`."""
    return {
        "embed": outputs.embed and embed_options(arguments),
        "fill_mask": outputs.fill_mask and FillMaskOptions(top_k=arguments.top_k, targets=arguments.targets),
        "next_sentence": outputs.next_sentence,
        "classify": outputs.classify,
        "tag_tokens": outputs.tag_tokens and TagOptions(aggregation=arguments.aggregation),
        "truncation": arguments.truncation,
    }


def embed_options(arguments: Namespace) -> EmbedOptions:
    return EmbedOptions(
        pooling=arguments.pooling,
        layers=arguments.layers,
        layer_merge=arguments.merge,
        normalize=arguments.normalize,
        vector_type="float16" if arguments.float16 else "float32",
        include_tokens=arguments.tokens,
    )


def _holds_mask(text: InputText, mask_token: str) -> bool:
    parts = (text,) if isinstance(text, str) else text
    return any(mask in part for part in parts for mask in (MASK, mask_token) if mask)
