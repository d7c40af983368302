"""BERT's training examples: sentence pairs, true or false, with masked tokens (Devlin et al. 2018, §3.1 and A.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from corpus import Corpus

MASK_SHARE = 0.15
NOT_MASKED = -100


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    cls: int
    sep: int
    mask: int
    pad: int
    unk: int
    vocabulary_size: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts as token ids, and whether the second follows the first in its article."""

    first: np.ndarray
    second: np.ndarray
    is_next: bool

    @property
    def length(self) -> int:
        return len(self.first) + len(self.second) + 3


@dataclass(frozen=True, slots=True)
class Batch:
    """int64 arrays. [B, L]: input_ids, token_type_ids, attention_mask, labels (NOT_MASKED where no token is asked for).
    [B]: next_sentence_label, 0 = is next, 1 = is not, as `transformers` has it."""

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray
    next_sentence_label: np.ndarray


def draw_pair(corpus: Corpus, length: int, rng: np.random.Generator, single: bool) -> Pair:
    """A pair of at most `length` tokens, special tokens included; half of all pairs are true.

    single: one sentence on either side. Else runs of sentences that fill the length, the first taking a random share.
    """
    room = length - 3
    start, article_end = draw_position(corpus, rng, sentences_needed=2)
    first_end = start + 1
    if not single:
        share = rng.integers(room // 4, 3 * room // 4)
        while first_end < article_end - 1 and span(corpus, start, first_end + 1) <= share:
            first_end += 1
    is_next = bool(rng.random() < 0.5)
    second_start, second_limit = (first_end, article_end) if is_next else draw_other(corpus, start, rng)
    first = corpus.sentences(start, first_end)
    second_end = second_start + 1
    while not single and second_end < second_limit and len(first) + span(corpus, second_start, second_end) < room:
        second_end += 1
    return trim(first, corpus.sentences(second_start, second_end), is_next, room)


def draw_position(corpus: Corpus, rng: np.random.Generator, sentences_needed: int) -> tuple[int, int]:
    """A sentence with enough sentences after it in its article, and where that article ends."""
    while True:
        sentence = int(rng.integers(len(corpus.sentence_bounds) - 1))
        article = int(np.searchsorted(corpus.article_bounds, sentence, side="right"))
        article_end = int(corpus.article_bounds[article])
        if sentence + sentences_needed <= article_end:
            return sentence, article_end


def draw_other(corpus: Corpus, sentence: int, rng: np.random.Generator) -> tuple[int, int]:
    """A sentence of another article than that of `sentence`, and where its article ends."""
    own = np.searchsorted(corpus.article_bounds, sentence, side="right")
    while True:
        other, article_end = draw_position(corpus, rng, sentences_needed=1)
        if article_end != corpus.article_bounds[own]:
            return other, article_end


def span(corpus: Corpus, start: int, end: int) -> int:
    return int(corpus.sentence_bounds[end] - corpus.sentence_bounds[start])


def trim(first: np.ndarray, second: np.ndarray, is_next: bool, room: int) -> Pair:
    """Cut the longer text at its end until both fit: what stands at the seam between them stays in the second."""
    excess = len(first) + len(second) - room
    if excess > 0:
        keep_first = max(len(first) - excess, min(len(first), room // 2))
        first = first[:keep_first]
        second = second[: room - keep_first]
    return Pair(first=first, second=second, is_next=is_next)


def collate(pairs: list[Pair], special: SpecialTokens, rng: np.random.Generator) -> Batch:
    """Lay pairs out as [CLS] first [SEP] second [SEP], padded to the longest, and mask them anew."""
    shape = (len(pairs), max(pair.length for pair in pairs))
    ids = np.full(shape, special.pad, dtype=np.int64)
    types, attention = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, pair in enumerate(pairs):
        seam = len(pair.first) + 2
        ids[row, : pair.length] = np.concatenate([[special.cls], pair.first, [special.sep], pair.second, [special.sep]])
        types[row, seam : pair.length] = 1
        attention[row, : pair.length] = 1
    masked_ids, labels = mask_tokens(ids, special, rng)
    next_labels = np.array([0 if pair.is_next else 1 for pair in pairs], dtype=np.int64)
    return Batch(masked_ids, types, attention, labels, next_labels)


def mask_tokens(ids: np.ndarray, special: SpecialTokens, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ask for 15 % of the tokens: 80 % of those become [MASK], 10 % a random token, 10 % stay as they are."""
    eligible = ~np.isin(ids, [special.cls, special.sep, special.pad, special.unk])
    asked = eligible & (rng.random(ids.shape) < MASK_SHARE)
    fate = rng.random(ids.shape)
    masked = np.where(asked & (fate < 0.8), special.mask, ids)
    swapped = asked & (fate >= 0.9)
    masked[swapped] = rng.integers(0, special.vocabulary_size, size=int(swapped.sum()))
    return masked, np.where(asked, ids, NOT_MASKED)


# (share of the tokens, longest length, single sentences?).
Mixture = tuple[tuple[float, int, bool], ...]
# At first very short: among 30 tokens attention finds what matters sooner than among 128 (Press et al. 2020,
# arXiv:2012.15832), and until it does the loss stands still at what word frequencies give.
FIRST: Mixture = ((1.0, 32, True),)
FIRST_ENDS_AT = 0.25
# Then mostly short, and some long enough to train every position.
REST: Mixture = ((0.35, 96, True), (0.55, 128, False), (0.10, 512, False))


def draw_batches(
    corpus: Corpus,
    special: SpecialTokens,
    tokens_per_batch: int,
    longest_tokens: int,
    rng: np.random.Generator,
    progress: Callable[[], float],
) -> Iterator[Batch]:
    """Batches without end, no text longer than the model takes; progress tells how far training is, from 0 to 1.

    Pairs are drawn eight batches at a time and sorted by length, so that little is padding.
    """
    while True:
        mixture = FIRST if progress() < FIRST_ENDS_AT else REST
        _, length, single = mixture[rng.choice(len(mixture), p=[share for share, _, _ in mixture])]
        pairs, drawn = [], 0
        while drawn < 8 * tokens_per_batch:
            pairs.append(draw_pair(corpus, min(length, longest_tokens), rng, single))
            drawn += pairs[-1].length
        batches = cut_by_tokens(sorted(pairs, key=lambda pair: pair.length), tokens_per_batch)
        for index in rng.permutation(len(batches)):
            yield collate(batches[index], special, rng)


def cut_by_tokens(pairs: list[Pair], tokens_per_batch: int) -> list[list[Pair]]:
    """Consecutive pairs in batches of at most `tokens_per_batch` tokens after padding; pairs ascend by length."""
    batches: list[list[Pair]] = [[]]
    for pair in pairs:
        if batches[-1] and (len(batches[-1]) + 1) * pair.length > tokens_per_batch:
            batches.append([])
        batches[-1].append(pair)
    return batches
