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

    Among equally frequent pieces `tokenizers` follows a hash table, whose order no seed governs: two trainings on the
    same text can differ in a few entries. A checkpoint therefore carries its vocabulary along.
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
    directory.mkdir(parents=True, exist_ok=True)
    trained.save_model(str(directory))
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
