"""One word in two senses: two places in a contextual model's space, one in a static table.

    python examples/contextual/senses.py --target HOST:PORT -o senses.png

Asks a running bertserve for the vectors of a word in sentences, through `Embed` without pooling. A static table
(word2vec's kind) has one vector a word, whatever the sentence; its place is taken here by the model's own word table,
which is what layer 0 gives for the word by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bertapi.client import BertClient
from bertapi.results import Embedding
from numpy.typing import NDArray
from picture import Panel, draw
from rich.console import Console
from rich.table import Table
from sentences import SENSES

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one word. nearest: share of its sentences whose nearest other sentence, by the cosine of the word's vectors,
    has the same sense; same, other: mean cosine within a sense, and across the two."""

    nearest: float
    same: float
    other: float


def contextual_vectors(client: BertClient, word: str, sentences: Sequence[str], layer: int) -> Floats:
    """[sentences, size]: the word's vector in each, the mean of its pieces' where the vocabulary cuts it."""
    embeddings = client.embed(sentences, pooling="none", layers=[layer], normalize=False, include_tokens=True)
    found = [
        vector_of(embedding, *find(word, sentence)) for embedding, sentence in zip(embeddings, sentences, strict=True)
    ]
    return np.stack(found)


def static_vector(client: BertClient, word: str) -> Floats:
    """[size]: the row of the model's word table, as layer 0 gives it for the word alone."""
    (embedding,) = client.embed(word, pooling="none", layers=[0], normalize=False, include_tokens=True)
    return vector_of(embedding, 0, len(word))


def find(word: str, sentence: str) -> tuple[int, int]:
    """Where the word stands, as [start, end) in characters. Raises ValueError unless it stands there once."""
    if sentence.lower().count(word) != 1:
        raise ValueError(f"{word!r} should stand once in {sentence!r}")
    start = sentence.lower().index(word)
    return start, start + len(word)


def vector_of(embedding: Embedding, start: int, end: int) -> Floats:
    rows = [i for i, t in enumerate(embedding.tokens) if not t.special and t.start >= start and t.end <= end]
    mean: Floats = embedding.vectors[rows].mean(axis=0, dtype=np.float32)
    return mean


def cosines(vectors: Floats) -> Floats:
    """[n, n] of vectors [n, size]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine: Floats = unit @ unit.T
    return cosine


def compare(vectors: Floats, senses: Sequence[int]) -> Figures:
    """vectors: [sentences, size]; senses: which sense the word has in each. A tie between senses counts one half."""
    similarity = cosines(vectors)
    alike = np.equal.outer(senses, senses)
    others = ~np.eye(len(senses), dtype=bool)
    best = np.where(others, similarity, -np.inf).max(axis=1, keepdims=True)
    nearest = others & np.isclose(similarity, best, rtol=0, atol=1e-6)
    return Figures(
        nearest=float(np.mean([of_sense(alike[i][nearest[i]]) for i in range(len(senses))])),
        same=float(similarity[alike & others].mean()),
        other=float(similarity[~alike].mean()),
    )


def of_sense(nearest_alike: NDArray[np.bool_]) -> float:
    return 1.0 if nearest_alike.all() else 0.5 * float(nearest_alike.any())


def project(vectors: Floats) -> Floats:
    """[n, 2]: the two directions in which vectors [n, size] differ most (principal components)."""
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    projected: Floats = centred @ directions[:2].T
    return projected


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument("--model", default="", help="which of the server's models; its first unless said")
    parser.add_argument("--layer", type=int, default=-1, help="0 is the embedding layer, -1 the last")
    parser.add_argument("-o", "--output", type=Path, default=Path("senses.png"), metavar="FILE")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    table = Table("word", "cosine, same sense", "cosine, other sense", "nearest has its sense", "in a static table")
    panels = []
    with BertClient(options.target, model=options.model) as client:
        for word, senses in SENSES.items():
            sentences = [sentence for of_sense in senses.values() for sentence in of_sense]
            belongs = [place for place, of_sense in enumerate(senses.values()) for _ in of_sense]
            vectors = contextual_vectors(client, word, sentences, options.layer)
            contextual = compare(vectors, belongs)
            static = compare(np.stack([static_vector(client, word)] * len(sentences)), belongs)
            table.add_row(
                word,
                f"{contextual.same:.2f}",
                f"{contextual.other:.2f}",
                f"{contextual.nearest:.0%}",
                f"{static.nearest:.0%}",
            )
            panels.append(Panel(word=word, senses=tuple(senses), points=project(vectors), belongs=tuple(belongs)))
    draw(panels, options.output)
    Console().print(table)
    print(f"drawn: {options.output}")


if __name__ == "__main__":
    main()
