"""The vocabulary that pretraining makes for itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer
from vocabulary import load_vocabulary, special_tokens, train_vocabulary

pytestmark = pytest.mark.export


def test_trained_vocabulary_loads_as_a_checkpoints_tokenizer(articles: list[list[str]], tmp_path: Path) -> None:
    """Lower-cased, special tokens first, pairs as BERT has them; the same for `tokenizers` and `transformers`."""
    trained = train_vocabulary((p for article in articles for p in article), 300, tmp_path, max_tokens=64)
    special = special_tokens(trained)
    assert [special.pad, special.unk, special.cls, special.sep, special.mask] == [0, 1, 2, 3, 4]
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    pair = loaded("The KING", "saw the fox")
    assert pair["input_ids"] == load_vocabulary(tmp_path).encode("the king", "saw the fox").ids
    assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert loaded.model_max_length == 64
