"""Questions put to a model as texts: hidden words, and pairs of which one may follow the other.

They are texts with `[MASK]` in them, rather than arrays of token ids, so that a checkpoint and a running server can be
asked the very same. Text cannot hide the start of a word and show the end of it as the vocabulary cuts it: `[MASK]ing`
is read as a mask and the word "ing". A hidden piece therefore takes the rest of its word with it, which is also what
Kauf & Ivanova 2023 (arXiv:2305.10588) found right for pseudo-perplexity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from corpus import Corpus, split_sentences
from pairs import MASK_SHARE, draw_pair

MASK = "[MASK]"
NEVER_ASKED = "[UNK]"
# Keeps one runaway sentence (a list, a table) within every model's limit: a token is at least a character.
LONGEST_SENTENCE_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Token:
    """A vocabulary entry, and where it stands in its text; `end` is exclusive."""

    text: str
    start: int
    end: int

    @property
    def continues_word(self) -> bool:
        return self.text.startswith("##")


Tokenize = Callable[[Sequence[str]], list[list[Token]]]


@dataclass(frozen=True, slots=True)
class Passage:
    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class PassagePair:
    first: Passage
    second: Passage
    is_next: bool


@dataclass(frozen=True, slots=True)
class MaskedText:
    """A text, or a pair of texts, with masks. answers: the hidden tokens in the order of the masks; complete: all
    tokens of the text or texts, the hidden ones included."""

    text: str
    text_pair: str | None
    answers: tuple[str, ...]
    complete: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)


@dataclass(frozen=True, slots=True)
class EvaluationText:
    """Articles as one string. `corpus` holds the indices of tokens where training has their ids, so that
    `pairs.draw_pair` draws here exactly as it does in training."""

    text: str
    tokens: tuple[Token, ...]
    corpus: Corpus

    @property
    def sentence_count(self) -> int:
        return len(self.corpus.sentence_bounds) - 1

    def passage(self, indices: np.ndarray) -> Passage:
        """The text of consecutive tokens, and those tokens with offsets into it."""
        tokens = self.tokens[int(indices[0]) : int(indices[-1]) + 1]
        offset = tokens[0].start
        moved = tuple(Token(token.text, token.start - offset, token.end - offset) for token in tokens)
        return Passage(text=self.text[offset : tokens[-1].end], tokens=moved)

    def sentence(self, index: int) -> Passage:
        return self.passage(self.corpus.sentence(index))


def tokenize_text(articles: Iterable[list[str]], tokenize: Tokenize) -> EvaluationText:
    """Articles (lists of paragraphs) as tokens with offsets; sentences without a letter or digit are left out."""
    split = [[s for paragraph in article for s in sentences_to_ask(paragraph)] for article in articles]
    sentences = [sentence for article in split for sentence in article]
    tokens: list[Token] = []
    sentence_bounds, offset = [0], 0
    for sentence, sentence_tokens in zip(sentences, tokenize(sentences), strict=True):
        tokens += [Token(token.text, token.start + offset, token.end + offset) for token in sentence_tokens]
        sentence_bounds.append(len(tokens))
        offset += len(sentence) + 1
    corpus = Corpus(
        tokens=np.arange(len(tokens)),
        sentence_bounds=np.array(sentence_bounds, dtype=np.int64),
        article_bounds=np.cumsum([0, *(len(article) for article in split)], dtype=np.int64),
    )
    return EvaluationText(text=" ".join(sentences), tokens=tuple(tokens), corpus=corpus)


def sentences_to_ask(paragraph: str) -> list[str]:
    cut = (sentence[:LONGEST_SENTENCE_CHARACTERS].strip() for sentence in split_sentences(paragraph))
    return [sentence for sentence in cut if any(character.isalnum() for character in sentence)]


def draw_text_pairs(
    text: EvaluationText, count: int, longest_tokens: int, rng: np.random.Generator, *, single: bool
) -> list[PassagePair]:
    """Pairs as in training: half of them consecutive; single sentences, or runs of them that fill `longest_tokens`."""
    drawn = [draw_pair(text.corpus, longest_tokens, rng, single) for _ in range(count)]
    return [PassagePair(text.passage(pair.first), text.passage(pair.second), pair.is_next) for pair in drawn]


def hide_words(pair: PassagePair, rng: np.random.Generator, *, whole_words: bool) -> MaskedText:
    """Hide 15 % of a pair's tokens, all of them as [MASK]: pieces with what is left of their word, or whole words."""
    tokens = (*pair.first.tokens, *pair.second.tokens)
    seam = len(pair.first.tokens)
    starts = [
        index
        for index, token in enumerate(tokens)
        if token.text != NEVER_ASKED and not (whole_words and token.continues_word)
    ]
    wanted = max(1, round(MASK_SHARE * sum(token.text != NEVER_ASKED for token in tokens)))
    hidden: set[int] = set()
    for start in rng.permutation(starts):
        if len(hidden) >= wanted:
            break
        hidden.update(rest_of_word(tokens, int(start), end=seam if start < seam else len(tokens)))
    return MaskedText(
        text=cover(pair.first, hidden),
        text_pair=cover(pair.second, {index - seam for index in hidden if index >= seam}),
        answers=tuple(tokens[index].text for index in sorted(hidden)),
        complete=tuple(token.text for token in tokens),
    )


def hide_each_token(passage: Passage) -> list[MaskedText]:
    """For every token but [UNK], the text without it and the rest of its word; its own answer comes first."""
    complete = tuple(token.text for token in passage.tokens)
    questions = []
    for index, token in enumerate(complete):
        if token != NEVER_ASKED:
            hidden = rest_of_word(passage.tokens, index, end=len(complete))
            answers = tuple(complete[place] for place in hidden)
            questions.append(MaskedText(cover(passage, set(hidden)), None, answers, complete))
    return questions


def rest_of_word(tokens: Sequence[Token], start: int, end: int) -> range:
    """Indices from `start` to the end of its word; a text ends at `end`."""
    stop = start + 1
    while stop < end and tokens[stop].continues_word:
        stop += 1
    return range(start, stop)


def cover(passage: Passage, hidden: set[int]) -> str:
    """The passage's text with a [MASK] in the place of each hidden token."""
    parts, shown_until = [], 0
    for index, token in enumerate(passage.tokens):
        if index in hidden:
            parts += [passage.text[shown_until : token.start], MASK]
            shown_until = token.end
    return "".join([*parts, passage.text[shown_until:]])


def keep_as_meant(questions: Sequence[MaskedText], tokenize: Tokenize) -> list[MaskedText]:
    """The questions that are read as their tokens with masks for the answers; rare characters may break a text."""
    readings = iter(tokenize([text for question in questions for text in question.texts]))
    kept = []
    for question in questions:
        read = [token.text for _ in question.texts for token in next(readings)]
        if read.count(MASK) == len(question.answers):
            remaining = iter(question.answers)
            filled = tuple(next(remaining) if token == MASK else token for token in read)
            kept += [question] if filled == question.complete else []
    return kept
