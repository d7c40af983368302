"""`bertbench checkpoint`: a BERT of a known shape with random weights, for speed depends on shapes alone.

What `bertexport --allow-accuracy-loss` makes of it runs as fast as the trained model would, without a hub.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bertbench.errors import BenchError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY_SIZE = 30_522


class Shape(StrEnum):
    """Models whose shape is borrowed."""

    BERT_BASE = "bert-base"
    MINILM = "minilm"
    XLM_R_LARGE = "xlm-r-large"


# google-bert/bert-base-uncased, sentence-transformers/all-MiniLM-L6-v2, BAAI/bge-m3 (its sizes, in BERT's form).
SHAPES: dict[Shape, dict[str, Any]] = {
    Shape.BERT_BASE: {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12},
    Shape.MINILM: {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6},
    Shape.XLM_R_LARGE: {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "max_position_embeddings": 8194,
    },
}


def checkpoint(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory to write to; must not exist.")],
    like: Annotated[Shape, typer.Option(help="The model whose shape to take.")] = Shape.BERT_BASE,
    vocabulary: Annotated[
        Path | None, typer.Option(help=f"A vocab.txt; without one, {VOCABULARY_SIZE} made-up words.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
    layers: Annotated[int | None, typer.Option(min=1, help="Number of layers; the model's own by default.")] = None,
) -> None:
    """Write a checkpoint with random weights, masked-LM and next-sentence heads included."""
    if directory.exists():
        raise BenchError(f"{directory}: exists; name a directory that does not")
    words = read_vocabulary(vocabulary) if vocabulary else list(itertools.islice(make_up_words(), VOCABULARY_SIZE))
    sizes = {**SHAPES[like], "vocab_size": len(words), **({"num_hidden_layers": layers} if layers else {})}
    write_model(directory, sizes, seed)
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    longest = sizes.get("max_position_embeddings", 512)
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": longest}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_vocabulary(path: Path) -> list[str]:
    """One token a line. Raises BenchError."""
    try:
        # Split at line ends alone: a vocabulary may have an entry for U+2028, at which str.splitlines would cut.
        words = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read as a vocabulary ({error})") from error
    missing = set(SPECIAL_TOKENS) - set(words)
    if missing:
        raise BenchError(f"{path}: lacks {', '.join(sorted(missing))}; a vocab.txt of BERT has a token a line")
    return words


def make_up_words() -> Iterator[str]:
    """The special tokens, what any word can be spelled with, then words of two letters, three, and so on."""
    yield from SPECIAL_TOKENS
    letters = string.ascii_lowercase
    yield from (*letters, *string.digits, *string.punctuation)
    yield from (f"##{letter}" for letter in letters + string.digits)
    for length in itertools.count(2):
        yield from map("".join, itertools.product(letters, repeat=length))


def write_model(directory: Path, config: dict[str, Any], seed: int) -> None:
    """config.json and model.safetensors."""
    # Seconds to import: not for --help.
    import torch
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(seed)
    # 12 heads, 512 positions and two segments unless the shape says otherwise: the defaults.
    BertForPreTraining(BertConfig(**config)).save_pretrained(directory)
