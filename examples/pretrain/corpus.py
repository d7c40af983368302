"""Reading text: articles, paragraphs, sentences, and the arrays of token ids that training samples from.

A corpus file holds a paragraph a line and a blank line between articles, plain or compressed (.xz). One token array for
all sentences, with the bounds of sentences and articles beside it, lets a training step cut its texts out of a
memory-mapped file without holding any Python object per sentence.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])")
# Splitting after these would cut names and abbreviations in two.
NOT_AN_END = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|c|ca|No|Vol|e\.g|i\.e|etc))\.$")

HELD_OUT_EVERY = 200  # every 200th article is kept for evaluation


@dataclass(frozen=True, slots=True)
class Corpus:
    """Sentences as token ids.

    tokens: uint16 [T]; sentence_bounds: int64 [S + 1] into tokens; article_bounds: int64 [A + 1] into sentences.
    """

    tokens: np.ndarray
    sentence_bounds: np.ndarray
    article_bounds: np.ndarray

    @property
    def article_count(self) -> int:
        return len(self.article_bounds) - 1

    def sentence(self, index: int) -> np.ndarray:
        return self.tokens[self.sentence_bounds[index] : self.sentence_bounds[index + 1]]

    def sentences(self, first: int, end: int) -> np.ndarray:
        """The tokens of the consecutive sentences first … end - 1."""
        return self.tokens[self.sentence_bounds[first] : self.sentence_bounds[end]]


def read_articles(path: Path) -> Iterator[list[str]]:
    """Articles as lists of paragraphs."""
    open_text = lzma.open if path.suffix == ".xz" else open
    with open_text(path, "rt", encoding="utf-8") as lines:
        paragraphs: list[str] = []
        for line in lines:
            if line.strip():
                paragraphs.append(line.strip())
            elif paragraphs:
                yield paragraphs
                paragraphs = []
        if paragraphs:
            yield paragraphs


def training_articles(path: Path) -> Iterator[list[str]]:
    return (article for index, article in enumerate(read_articles(path)) if index % HELD_OUT_EVERY)


def held_out_articles(path: Path) -> Iterator[list[str]]:
    """Those that training leaves out."""
    return (article for index, article in enumerate(read_articles(path)) if index % HELD_OUT_EVERY == 0)


def read_wikitext(path: Path) -> Iterator[list[str]]:
    """Articles of a WikiText file, detokenized; headings left out, its `<unk>` becoming `[UNK]`."""
    paragraphs: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if re.fullmatch(r"= [^=].*[^=] =", text):
            if paragraphs:
                yield paragraphs
            paragraphs = []
        elif text and not text.startswith("="):
            paragraphs.append(detokenize(text))
    if paragraphs:
        yield paragraphs


def detokenize(text: str) -> str:
    """Running text from WikiText's tokens: `1 @,@ 000 ( a )` becomes `1,000 (a)`."""
    text = re.sub(r" @([-,.])@ ", r"\1", text).replace("<unk>", "[UNK]")
    text = re.sub(r'" ([^"]*?) "', r'"\1"', text)
    text = re.sub(r" ([,.;:!?%)\]]|'s\b|n't\b|'(?:re|ve|ll|d|m)\b)", r"\1", text)
    return re.sub(r"([(\[$£]) ", r"\1", text)


def split_sentences(paragraph: str) -> list[str]:
    """Sentences of a paragraph; a full stop after an initial or a common abbreviation ends none."""
    sentences: list[str] = []
    for part in SENTENCE_END.split(paragraph):
        if sentences and NOT_AN_END.search(sentences[-1]):
            sentences[-1] += " " + part
        else:
            sentences.append(part)
    return [sentence for sentence in sentences if sentence.strip()]


def tokenize_articles(articles: Iterable[list[str]], tokenizer: Tokenizer) -> Corpus:
    """Tokenize articles, without special tokens, a hundred at a time (`tokenizers` uses every core)."""
    tokens, sentence_lengths, article_lengths = [], [], []
    remaining = iter(articles)
    while chunk := list(islice(remaining, 100)):
        split = [[s for paragraph in article for s in split_sentences(paragraph)] for article in chunk]
        article_lengths += [len(sentences) for sentences in split]
        for encoding in tokenizer.encode_batch_fast(
            [s for article in split for s in article], add_special_tokens=False
        ):
            tokens.append(np.array(encoding.ids, dtype=np.uint16))
            sentence_lengths.append(len(encoding.ids))
    return Corpus(
        tokens=np.concatenate(tokens),
        sentence_bounds=np.cumsum([0, *sentence_lengths], dtype=np.int64),
        article_bounds=np.cumsum([0, *article_lengths], dtype=np.int64),
    )


def save_corpus(corpus: Corpus, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in Corpus.__slots__:
        np.save(directory / f"{name}.npy", getattr(corpus, name))


def load_corpus(directory: Path) -> Corpus:
    return Corpus(**{name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in Corpus.__slots__})
