"""From token labels to entities: what stands together under one kind of label. Pure.

The rules are those of `transformers`' token-classification pipeline with `aggregation_strategy="simple"`.
"""

from __future__ import annotations

from collections.abc import Sequence

from bertserve.tasks.answers import Entity, TaggedToken
from bertserve.tokenizer import Text

# The label of tokens that belong to no entity.
OUTSIDE = "O"
BEGINS, INSIDE = "B-", "I-"


def group_entities(tagged: Sequence[TaggedToken], text: Text) -> tuple[Entity, ...]:
    """The entities of one input, in the order of its tokens, which are the caller's alone.

    A token joins the one before it where both are of the same kind and its label does not begin an entity. A label
    without B- or I- is its own kind, and never begins one. An entity never reaches from a text into its pair.
    """
    groups: list[list[TaggedToken]] = []
    for token in tagged:
        if groups and _continues(groups[-1][-1], token):
            groups[-1].append(token)
        else:
            groups.append([token])
    entities = (_entity(group, text) for group in groups)
    return tuple(entity for entity in entities if entity.label != OUTSIDE)


def _continues(before: TaggedToken, token: TaggedToken) -> bool:
    is_begin = token.label.label.startswith(BEGINS)
    return not is_begin and _kind(token) == _kind(before) and token.token.segment == before.token.segment


def _kind(token: TaggedToken) -> str:
    label = token.label.label
    return label[len(BEGINS) :] if label.startswith((BEGINS, INSIDE)) else label


def _entity(group: Sequence[TaggedToken], text: Text) -> Entity:
    first, last = group[0].token, group[-1].token
    whole = text.text_pair if first.segment else text.text
    return Entity(
        # Without whatever stands before the first dash, be it B, I or a mark of another scheme, such as S or E.
        label=group[0].label.label.split("-", 1)[-1],
        probability=sum(token.label.probability for token in group) / len(group),
        segment=first.segment,
        start=first.start,
        end=last.end,
        text=(whole or "")[first.start : last.end],
    )
