"""Which texts are measured: their lengths in tokens, cut into batches by the server's own policy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from bertserve.batching.policy import BatchLimits, Waiting, choose_batch

SEED = 20
# Log-normal, as lengths of sentences are: mean exp(μ + σ²/2). With special tokens.
SENTENCE_MEAN, SENTENCE_SIGMA, SENTENCE_COUNT = 30.0, 0.5, 40
# From a word to a page.
WIDE_MEAN, WIDE_SIGMA, WIDE_COUNT, WIDE_LIMIT = 128.0, 1.1, 16, 512
SHORTEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Texts that are measured together. lengths: tokens of each, in order of arrival."""

    name: str
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def is_mixed(self) -> bool:
        return len(set(self.lengths)) > 1


def equal_lengths(count: int, length: int) -> Shape:
    return Shape(name=f"{count}×{length}", lengths=(length,) * count)


def mixed_lengths(name: str, count: int, mean: float, sigma: float, limit: int) -> Shape:
    """Log-normal lengths, the same in every run, none above the limit; drawn as evenly as quantiles, then shuffled.

    So few draws would have any mean: taken at equal steps of probability, they have the distribution's own.
    """
    rng = np.random.default_rng(SEED)
    steps = (np.arange(count) + 0.5) / count
    normal = np.sort(rng.standard_normal(100_000))
    values = np.exp(np.log(mean) - sigma**2 / 2 + sigma * np.quantile(normal, steps))
    lengths = np.clip(np.rint(values), SHORTEST, limit).astype(int)
    return Shape(name=name, lengths=tuple(int(length) for length in rng.permutation(lengths)))


SENTENCES = mixed_lengths("sentences", SENTENCE_COUNT, SENTENCE_MEAN, SENTENCE_SIGMA, WIDE_LIMIT)
# As long as the mean sentence, as many as the budget holds: what sentences are compared with.
EQUAL_SENTENCES = equal_lengths(8, int(SENTENCE_MEAN))
SHAPES = (
    equal_lengths(1, 16),
    equal_lengths(1, 128),
    equal_lengths(1, 512),
    equal_lengths(16, 16),
    equal_lengths(8, 128),
    EQUAL_SENTENCES,
    SENTENCES,
    mixed_lengths("wide mix", WIDE_COUNT, WIDE_MEAN, WIDE_SIGMA, WIDE_LIMIT),
)


def fit_shapes(shapes: Sequence[Shape], max_tokens: int) -> list[Shape]:
    """What a model can take: mixed texts are shortened to its limit, equal ones that exceed it left out."""
    shortened = (
        replace(shape, lengths=tuple(min(length, max_tokens) for length in shape.lengths)) if shape.is_mixed else shape
        for shape in shapes
    )
    return [shape for shape in shortened if max(shape.lengths) <= max_tokens]


def cut_batches(shape: Shape, batch_tokens: int) -> list[tuple[int, ...]]:
    """Lengths batch by batch, as the server would run these texts had they all just arrived."""
    limits = BatchLimits(batch_tokens=batch_tokens, overtaken_seconds=1.0)
    waiting = {
        number: Waiting(number=number, request=number, tokens=length, since=0.0, deadline=None)
        for number, length in enumerate(shape.lengths)
    }
    batches = []
    while waiting:
        chosen = choose_batch(waiting.values(), 0.0, limits).batch
        batches.append(tuple(waiting.pop(number).tokens for number in chosen))
    return batches
