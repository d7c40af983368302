"""How much an answer holds, counted before anything runs. A door turns the counts into bytes of its own encoding.

Each part of an ask counts what it gives for all inputs together, as upper bounds. So nothing runs whose answer could
not be sent, and no rule about bytes on a wire is needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bertserve.engine.items import Item
from bertserve.models import ServedModel
from bertserve.tasks.asks import Aggregation, Ask, EmbedAsk, TagAsk, VectorType


class Counts(NamedTuple):
    """What an answer holds at most, all inputs together."""

    inputs: int = 0
    masks: int = 0
    #: Masks of the input that has most of them.
    most_masks: int = 0
    #: Predictions and scored targets. Each is two strings and three numbers.
    predictions: int = 0
    #: Scored labels. Each is a string and four numbers.
    labels: int = 0
    #: Tokens. Each is a string and five numbers.
    tokens: int = 0
    #: Entities. Each is two strings and four numbers.
    entities: int = 0
    #: Elements of vectors, by their type.
    float32s: int = 0
    float16s: int = 0
    #: UTF-8 bytes of all these strings together.
    text_bytes: int = 0


class SizeModel(Protocol):
    """What an answer's parts take in one encoding."""

    def answer_bytes(self, counts: Counts) -> int:
        """Return an upper bound of the size of an answer that holds so much, in bytes."""


def count_answer(model: ServedModel, ask: Ask, vector_numbers: int, items: Sequence[Item]) -> Counts:
    """Count what the answer to an ask holds. vector_numbers: elements of all its vectors."""
    parts = [Counts(inputs=len(items))]
    if ask.embed is not None:
        parts.append(_count_vectors(model, ask.embed, vector_numbers, items))
    if ask.fill_mask is not None:
        parts.append(_count_masks(model, items))
    if ask.classify:
        parts.append(_count_labels(model, items))
    if ask.tag_tokens is not None:
        parts.append(_count_tags(model, ask, ask.tag_tokens, items))
    return Counts(*map(sum, zip(*parts, strict=True)))


def count_tokens(model: ServedModel, inputs: int, tokens: int) -> Counts:
    """Count an answer of so many tokens of so many inputs, and nothing else."""
    return Counts(inputs=inputs, tokens=tokens, text_bytes=tokens * model.tokenizer.longest_token_bytes)


def _count_vectors(model: ServedModel, embed: EmbedAsk, numbers: int, items: Sequence[Item]) -> Counts:
    is_half = embed.vector_type is VectorType.FLOAT16
    tokens = sum(item.length for item in items) if embed.include_tokens else 0
    return Counts(
        float32s=0 if is_half else numbers,
        float16s=numbers if is_half else 0,
        tokens=tokens,
        text_bytes=tokens * model.tokenizer.longest_token_bytes,
    )


def _count_masks(model: ServedModel, items: Sequence[Item]) -> Counts:
    masks = [len(item.wanted.mask_positions) for item in items]
    predictions = sum(
        count * (item.wanted.top_k + len(item.wanted.target_ids)) for count, item in zip(masks, items, strict=True)
    )
    return Counts(
        masks=sum(masks),
        most_masks=max(masks),
        predictions=predictions,
        text_bytes=2 * predictions * model.tokenizer.longest_token_bytes,
    )


def _count_labels(model: ServedModel, items: Sequence[Item]) -> Counts:
    label_bytes = sum(len(label.encode()) for label in model.facts.labels)
    return Counts(labels=len(items) * len(model.facts.labels), text_bytes=len(items) * label_bytes)


def _count_tags(model: ServedModel, ask: Ask, tags: TagAsk, items: Sequence[Item]) -> Counts:
    """At most one entity a token. The texts of all entities of an input are no longer than the input."""
    length = sum(item.length for item in items)
    label_bytes = max(len(label.encode()) for label in model.facts.labels)
    tokens = Counts(
        tokens=length, labels=length, text_bytes=length * (model.tokenizer.longest_token_bytes + label_bytes)
    )
    if tags.aggregation is not Aggregation.SIMPLE:
        return tokens
    texts = sum(len(f"{given.text}{given.text_pair or ''}".encode()) for given in ask.inputs)
    return tokens._replace(entities=length, text_bytes=tokens.text_bytes + length * label_bytes + texts)
