"""Reading text: detokenizing, sentences, articles, and the token arrays made of them."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus import (
    HELD_OUT_EVERY,
    detokenize,
    held_out_articles,
    load_corpus,
    read_articles,
    read_wikitext,
    save_corpus,
    split_sentences,
    tokenize_articles,
    training_articles,
)
from tokenizers import Tokenizer

DETOKENIZED = {
    "commas in numbers": ("about 1 @,@ 000 men", "about 1,000 men"),
    "hyphens and points": ("a well @-@ known 2 @.@ 5 km", "a well-known 2.5 km"),
    "stops and commas": ("yes , no ; maybe .", "yes, no; maybe."),
    "brackets": ("it ( the dog ) ran [ sic ]", "it (the dog) ran [sic]"),
    "quotes": ('the " big " dog', 'the "big" dog'),
    "possessives and short forms": (
        "the dog 's tail did n't move , they 're here",
        "the dog's tail didn't move, they're here",
    ),
    "money and shares": ("$ 5 or 10 %", "$5 or 10%"),
    "unknown words": ("a <unk> lobster", "a [UNK] lobster"),
}

SENTENCES = {
    "full stops": ("It rained. We left.", ["It rained.", "We left."]),
    "questions and exclamations": ("Why? No! He ran.", ["Why?", "No!", "He ran."]),
    "initials": ("George W. Bush won. He spoke.", ["George W. Bush won.", "He spoke."]),
    "titles": ("Dr. Smith met Mr. Jones. They talked.", ["Dr. Smith met Mr. Jones.", "They talked."]),
    "small letters after a stop": ("It cost approx. ten dollars.", ["It cost approx. ten dollars."]),
    "numbers": ("It is 2.5 m long. 10 were seen.", ["It is 2.5 m long.", "10 were seen."]),
    "nothing": ("  ", []),
}


@pytest.mark.parametrize(("tokens", "text"), DETOKENIZED.values(), ids=DETOKENIZED.keys())
def test_detokenizes(tokens: str, text: str) -> None:
    """WikiText's tokens become running text."""
    assert detokenize(tokens) == text


@pytest.mark.parametrize(("paragraph", "sentences"), SENTENCES.values(), ids=SENTENCES.keys())
def test_splits_sentences(paragraph: str, sentences: list[str]) -> None:
    """A sentence ends where one does, and not after an initial or a title."""
    assert split_sentences(paragraph) == sentences


def test_wikitext_is_cut_at_its_top_headings(tmp_path: Path) -> None:
    """An article begins at `= Title =`; other headings vanish."""
    path = tmp_path / "wiki.tokens"
    path.write_text(" \n = One = \n\n First , here . \n\n = = Part = = \n\n Second . \n = Two = \n\n Third . \n")
    assert list(read_wikitext(path)) == [["First, here.", "Second."], ["Third."]]


def test_real_wikitext_keeps_no_marks(shared_data: Callable[[str], Path]) -> None:
    """The valid set has its sixty articles, and neither headings nor WikiText's marks are left in it."""
    articles = list(read_wikitext(shared_data("wikitext-2/wiki.valid.tokens")))
    text = "\n".join(paragraph for article in articles for paragraph in article)
    assert len(articles) == 60
    assert not [mark for mark in ("<unk>", " @-@ ", " @,@ ", " @.@ ", " , ", "\n=") if mark in text]


def test_compressed_and_plain_files_are_the_same(
    articles: list[list[str]], articles_file: Path, tmp_path: Path
) -> None:
    """Both give every paragraph of every article."""
    compressed = tmp_path / "articles.txt.xz"
    compressed.write_bytes(lzma.compress(articles_file.read_bytes()))
    assert list(read_articles(compressed)) == list(read_articles(articles_file)) == articles


def test_every_article_is_trained_on_or_held_out(tmp_path: Path) -> None:
    """Every 200th is held out, the first among them; no article is in both or in none."""
    path = tmp_path / "many.txt"
    path.write_text("\n\n".join(f"Article {number}." for number in range(2 * HELD_OUT_EVERY + 1)))
    held_out = [article[0] for article in held_out_articles(path)]
    training = [article[0] for article in training_articles(path)]
    assert held_out == ["Article 0.", "Article 200.", "Article 400."]
    assert sorted(held_out + training) == sorted(article[0] for article in read_articles(path))


def test_token_arrays_hold_every_sentence(articles: list[list[str]], tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Read back from disk, each sentence's tokens are those of its text, article by article."""
    save_corpus(tokenize_articles(articles, tokenizer), tmp_path)
    corpus = load_corpus(tmp_path)
    assert corpus.article_count == len(articles)
    for number, article in enumerate(articles):
        first, end = corpus.article_bounds[number : number + 2]
        read = [corpus.sentence(index).tolist() for index in range(first, end)]
        sentences = [sentence for paragraph in article for sentence in split_sentences(paragraph)]
        assert read == [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in sentences]
