"""An uncased WordPiece vocabulary, trained on text, as the tokenizer that `transformers` loads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pairs import SpecialTokens
from tokenizers import Tokenizer
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from transformers import BertTokenizer

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_vocabulary(lines: Iterable[str], size: int, directory: Path, max_tokens: int) -> Tokenizer:
    """Train on lines of text, and save the tokenizer in Hugging Face form.

    Tokens are put in order: training leaves those of equal frequency in an order that differs from run to run.
    """
    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(
        iter(lines),
        vocab_size=size,
        min_frequency=2,
        limit_alphabet=400,
        special_tokens=[*SPECIAL_TOKENS],
        show_progress=False,
    )
    tokens = [*SPECIAL_TOKENS, *sorted(trained.get_vocab().keys() - set(SPECIAL_TOKENS))]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(directory, do_lower_case=True, model_max_length=max_tokens)
    tokenizer.save_pretrained(directory)
    return load_vocabulary(directory)


def load_vocabulary(directory: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    ids = tokenizer.get_vocab()
    pad, unk, cls, sep, mask = (ids[token] for token in SPECIAL_TOKENS)
    return SpecialTokens(cls=cls, sep=sep, mask=mask, pad=pad, unk=unk, vocabulary_size=len(ids))
