"""Random checkpoints: the shape of a known model, and a vocabulary that spells anything."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bertbench.checkpoint import SPECIAL_TOKENS, Shape, checkpoint, make_up_words, read_vocabulary
from bertbench.errors import BenchError

pytestmark = pytest.mark.export


def test_made_up_words_are_distinct_and_spell_anything() -> None:
    """No word comes twice, and every letter has its piece within a word."""
    words = list(itertools.islice(make_up_words(), 30_522))
    assert len(set(words)) == len(words)
    assert {*SPECIAL_TOKENS, "a", "##a", "z", "##z", "?"} <= set(words)


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    """The tokens that it lacks are named."""
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\n")
    with pytest.raises(BenchError, match=r"lacks \[MASK\]"):
        read_vocabulary(path)


def test_a_vocabulary_has_a_token_a_line(tmp_path: Path) -> None:
    """A line separator is one, as in bert-base-chinese."""
    words = [*SPECIAL_TOKENS, "\u2028", "word"]
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    assert read_vocabulary(path) == words


def test_a_shape_may_have_fewer_layers(tmp_path: Path) -> None:
    """One layer of a large model shows what a length costs; its tokenizer states the model's own longest text."""
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("".join(f"{word}\n" for word in itertools.islice(make_up_words(), 100)), encoding="utf-8")
    checkpoint(tmp_path / "large", Shape.XLM_R_LARGE, vocabulary, seed=0, layers=1)
    config, settings = (
        json.loads((tmp_path / "large" / name).read_text()) for name in ("config.json", "tokenizer_config.json")
    )
    assert (config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]) == (1, 1024, 100)
    assert settings["model_max_length"] == config["max_position_embeddings"] == 8194


@pytest.mark.slow
def test_the_command_writes_a_checkpoint_that_transformers_loads(tmp_path: Path) -> None:
    """MiniLM's shape, all heads, and a tokenizer."""
    from transformers import AutoModelForPreTraining, AutoTokenizer

    command = [sys.executable, "-m", "bertbench", "checkpoint", tmp_path / "minilm", "--like", "minilm"]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=240)
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "minilm")
    assert (model.config.hidden_size, model.config.num_hidden_layers, model.config.vocab_size) == (384, 6, 30_522)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "minilm")
    assert tokenizer.unk_token_id not in tokenizer("a word that nobody made up")["input_ids"]
    assert json.loads((tmp_path / "minilm" / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
