"""Entities: tokens grouped by their labels, nothing lost between them, and always the caller's own words."""

from __future__ import annotations

import pytest
from bertserve.tasks.answers import LabelScore, TaggedToken
from bertserve.tasks.entities import group_entities
from bertserve.tokenizer import Text, Token
from hypothesis import given
from hypothesis import strategies as st

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC", "B-MISC", "S-PER", "-", "B-")


def tag(words: str, labels: str, segment: int = 0) -> list[TaggedToken]:
    """Words and their labels, all separated by spaces; `##` continues a word."""
    tagged, end = [], 0
    for place, (word, label) in enumerate(zip(words.split(), labels.split(), strict=True)):
        piece = word.removeprefix("##")
        start = end if piece != word or not place else end + 1
        end = start + len(piece)
        token = Token(text=word, id=place, segment=segment, start=start, end=end, special=False)
        score = LabelScore(label=label, index=0, probability=(place + 1) / 16, logit=0.0, score=0.0)
        tagged.append(TaggedToken(token=token, label=score))
    return tagged


CASES: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "nothing": ("we met there", "O O O", []),
    "a name of two words": ("we met ada lovelace", "O O B-PER I-PER", [("PER", "ada lovelace")]),
    "two names side by side": ("ada charles", "B-PER B-PER", [("PER", "ada"), ("PER", "charles")]),
    "a name in pieces": ("love ##lace met", "B-PER I-PER O", [("PER", "lovelace")]),
    "a name that begins inside": ("met ada lovelace", "O I-PER I-PER", [("PER", "ada lovelace")]),
    "another kind ends a name": ("ada london", "B-PER I-LOC", [("PER", "ada"), ("LOC", "london")]),
    "outside ends a name": ("ada of london", "B-LOC O I-LOC", [("LOC", "ada"), ("LOC", "london")]),
    "labels without B and I": ("ada lovelace met", "PER PER O", [("PER", "ada lovelace")]),
    "labels with and without": ("ada lovelace", "PER I-PER", [("PER", "ada lovelace")]),
    "labels of another scheme": ("ada lovelace", "S-PER E-PER", [("PER", "ada"), ("PER", "lovelace")]),
}


@pytest.mark.parametrize(("words", "labels", "expected"), CASES.values(), ids=CASES.keys())
def test_grouping(words: str, labels: str, expected: list[tuple[str, str]]) -> None:
    """Each entity by its label and its words."""
    entities = group_entities(tag(words, labels), Text(text=words.replace(" ##", "")))
    assert [(entity.label, entity.text) for entity in entities] == expected


def test_no_entity_reaches_into_the_pair() -> None:
    """A label inside an entity begins a new one where the pair begins."""
    tagged = [*tag("ada", "B-PER"), *tag("lovelace met", "I-PER O", segment=1)]
    entities = group_entities(tagged, Text(text="ada", text_pair="lovelace met"))
    assert [(entity.segment, entity.start, entity.end, entity.text) for entity in entities] == [
        (0, 0, 3, "ada"),
        (1, 0, 8, "lovelace"),
    ]


def test_the_probability_is_the_mean_of_the_tokens() -> None:
    """Of three pieces with 1, 2 and 3 sixteenths."""
    (entity,) = group_entities(tag("love ##la ##ce", "B-PER I-PER I-PER"), Text(text="lovelace"))
    assert entity.probability == 2 / 16


@given(st.lists(st.sampled_from(LABELS), max_size=12), st.lists(st.sampled_from(LABELS), max_size=12))
def test_every_labelled_token_is_in_one_entity(first: list[str], second: list[str]) -> None:
    """Entities follow each other, within one text each, and between them cover all tokens but those outside."""
    texts = [" ".join(f"w{place}" for place in range(len(labels))) for labels in (first, second)]
    tagged = [
        token
        for segment, labels in enumerate((first, second))
        for token in tag(texts[segment], " ".join(labels), segment)
    ]
    entities = group_entities(tagged, Text(text=texts[0], text_pair=texts[1]))
    places = [(entity.segment, entity.start, entity.end) for entity in entities]
    assert places == sorted(places)
    for token in tagged:
        place = token.token
        holding = [p for p in places if p[0] == place.segment and p[1] <= place.start and place.end <= p[2]]
        outside = token.label.label in ("O", "B-O", "I-O")
        assert len(holding) == (0 if outside else 1)
    for entity in entities:
        assert entity.text == texts[entity.segment][entity.start : entity.end]
        assert 1 / 16 <= entity.probability <= 12 / 16
