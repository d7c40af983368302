"""What servers are measured with: texts of known lengths by the bundle's own tokenizer, as requests and as items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from bertserve.bundle import Bundle, BundleError, read_bundle
from bertserve.engine.items import Item, Wanted
from bertserve.tokenizer import Text, Tokenizer, Truncation

from bertbench.errors import BenchError
from bertbench.load.requests import PreparedRequest, prepare_one
from bertbench.load.texts import draw_lengths, fit_texts, read_texts


class Workload:
    """Makes texts for one bundle out of the lines of a file, or of the built-in sentences."""

    def __init__(self, bundle: Bundle, texts: Path | None, seed: int = 0) -> None:
        self.bundle = bundle
        self.rng = np.random.default_rng(seed)
        self._texts = read_texts(texts)
        self._tokenizer = Tokenizer(bundle.tokenizer_path, bundle.model)
        self._special_tokens = self._count("")

    def texts(self, lengths: Iterable[int]) -> list[str]:
        """Texts of so many tokens, special tokens included."""
        return fit_texts(
            self._texts, lengths, lambda word: self._count(word) - self._special_tokens, self._special_tokens
        )

    def texts_of_mean(self, mean: float, count: int) -> list[str]:
        """Texts whose lengths vary as those of sentences do."""
        return self.texts(draw_lengths(mean, count, (5, self.bundle.model.max_tokens), self.rng).tolist())

    def items(self, texts: Sequence[str]) -> list[Item]:
        """The texts as the engine sees them when their mean-pooled embeddings are asked for."""
        wanted = Wanted(layers=(self.bundle.model.layer_count,))
        return [
            Item(input_ids=text.input_ids, token_type_ids=text.token_type_ids, wanted=wanted)
            for text in self._tokenizer.tokenize([Text(text=text) for text in texts], Truncation.END)
        ]

    def _count(self, text: str) -> int:
        return len(self._tokenizer.tokenize([Text(text=text)], Truncation.END)[0])


def open_bundle(path: Path) -> Bundle:
    """Read and check a bundle. Raises BenchError."""
    try:
        return read_bundle(path.resolve())
    except BundleError as error:
        raise BenchError(str(error)) from error


def embed_each(texts: Sequence[str], kind: str = "") -> tuple[PreparedRequest, ...]:
    """One Embed request for each text."""
    return tuple(prepare_one("embed", [text], kind=kind) for text in texts)
