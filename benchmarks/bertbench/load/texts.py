"""What callers send: lines of a file, or the sentences that come with the package, whole or fitted to token counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertbench.errors import BenchError

# Of sentences in running text, lengths in tokens are close to log-normal with about this spread.
LENGTH_SPREAD = 0.5


def read_texts(path: Path | None) -> tuple[str, ...]:
    """The lines of a file that hold more than blanks; without a file, the built-in sentences. Raises BenchError."""
    if path is None:
        content = resources.files("bertbench.load").joinpath("sentences.txt").read_text(encoding="utf-8")
    else:
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise BenchError(f"{path}: cannot be read ({reason}); give a file of texts, one a line") from error
    texts = tuple(line.strip() for line in content.split("\n") if line.strip())
    if not texts:
        raise BenchError(f"{path}: no text in it; give a file of texts, one a line")
    return texts


def draw_lengths(mean: float, size: int, bounds: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Log-normal token counts of a mean (before they are brought inside the bounds), one a text."""
    drawn = rng.lognormal(np.log(mean) - LENGTH_SPREAD**2 / 2, LENGTH_SPREAD, size)
    return np.clip(np.rint(drawn), *bounds).astype(np.int64)


def fit_texts(
    texts: Sequence[str], lengths: Iterable[int], count_tokens: Callable[[str], int], special_tokens: int
) -> list[str]:
    """Texts of so many tokens, special tokens included, out of the words of `texts`, taken in order, round and round.

    A word that would be too much is left out, so that a text is shorter than asked only where no word is one token.
    """
    words = [(word, tokens) for text in texts for word in text.split() if (tokens := count_tokens(word)) > 0]
    if not words:
        raise BenchError("the texts hold no word that the tokenizer knows; give others")
    numbers = count()
    fitted = []
    for length in lengths:
        room, taken, passed_over = length - special_tokens, [], 0
        while room > 0 and passed_over < len(words):
            word, tokens = words[next(numbers) % len(words)]
            if tokens <= room:
                taken.append(word)
                room -= tokens
                passed_over = 0
            else:
                passed_over += 1
        fitted.append(" ".join(taken))
    return fitted
