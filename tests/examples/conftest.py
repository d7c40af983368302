"""The example scripts import each other by name, as they do when run; their folders are put on the path for that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from checkpoints import VOCABULARY, word_piece_tokenizer
from tokenizers import Tokenizer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHARED_DATA = ROOT.parent / "shared" / "data"

for folder in ("pretrain", "finetune", "contextual", "attention"):
    sys.path.insert(0, str(EXAMPLES / folder))

# Where the [export] extra is missing, the files that import torch, transformers or rich cannot even be read.
collect_ignore = (
    []
    if find_spec("torch")
    else [
        "test_attention.py",
        "test_contextual.py",
        "test_evaluate.py",
        "test_finetune.py",
        "test_freezing.py",
        "test_pretrain.py",
        "test_served.py",
        "test_vocabulary.py",
    ]
)

TOPICS = (("fox", "forest"), ("king", "city"), ("boat", "river"), ("teacher", "school"), ("horse", "farm"))
DOES = ("saw", "found", "left", "loved", "followed", "carried")
THINGS = ("stone", "apple", "letter", "picture", "flower", "garden", "box")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Lower-casing WordPiece over the words of the tests' checkpoints."""
    return word_piece_tokenizer(VOCABULARY)


@pytest.fixture(scope="session")
def articles() -> list[list[str]]:
    """Sixty articles of a few paragraphs, each about one of five topics."""
    rng = np.random.default_rng(3)
    return [make_article(rng) for _ in range(60)]


def make_article(rng: np.random.Generator) -> list[str]:
    who, where = TOPICS[rng.integers(len(TOPICS))]
    sentences = [
        f"The {who} {rng.choice(DOES)} the {rng.choice(THINGS)} in the {where}." for _ in range(rng.integers(6, 14))
    ]
    return [" ".join(sentences[start : start + 4]) for start in range(0, len(sentences), 4)]


@pytest.fixture(scope="session")
def articles_file(articles: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "articles.txt"
    path.write_text("\n\n".join("\n".join(article) for article in articles) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: matrices as small as the tests' only lose by being shared between several."""
    import torch  # the suite without the [export] extra reads this file too

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


RunExample = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_example() -> RunExample:
    """Run an example as a user would, by its path under examples/; warnings are errors there too."""

    def run(script: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", EXAMPLES / script, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=120, env=environment)

    return run


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """A file of the data that lies beside the repository; skips, with its name, where it does not."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"needs ../shared/data/{name}, which is not in the repository")
        return path

    return find
