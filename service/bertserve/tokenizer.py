"""Texts to tokens, exactly as the checkpoint's tokenizer makes them. The only room that knows `tokenizers`.

Owns truncation, literal masks, and how a word becomes a vocabulary entry. Knows nothing of requests or their limits.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np

from bertserve.bundle import BundleError, ModelFacts
from bertserve.engine.items import Int64s

# A long request is tokenized by one thread, or it would take every core from the lanes.
os.putenv("TOKENIZERS_PARALLELISM", "false")
import tokenizers

# Which text of an input a token is of, None where special, and its start and end there.
Place = tuple[int | None, tuple[int, int]]

# A mask for every model, whatever its own mask token is called.
LITERAL_MASK = "[MASK]"


class Truncation(StrEnum):
    """What happens to an input longer than the model's limit."""

    ERROR = "error"
    END = "end"
    START = "start"


class TooManyTokens(Exception):
    """An input longer than the model's limit, with truncation not asked for."""

    def __init__(self, index: int, token_count: int, limit: int, *, pair_is_longer: bool) -> None:
        super().__init__(f"{token_count} tokens, the model takes {limit}")
        self.index = index
        self.pair_is_longer = pair_is_longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text, or a pair of texts that the model sees as two segments."""

    text: str
    text_pair: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of an input. text: as the vocabulary holds it. start, end: code points of the caller's text, end
    exclusive; 0 and 0 where special.

    special: added by the tokenizer, as [CLS] is. segment: 0 for the text, 1 for its pair.
    """

    text: str
    id: int
    segment: int
    start: int
    end: int
    special: bool


class TokenizedText:
    """An input as the model sees it. input_ids, token_type_ids: int64 [length].

    mask_positions: where masks stand, ascending. masks_lost: how many masks truncation cut off the text, and its pair.
    """

    def __init__(
        self,
        encoding: tokenizers.Encoding,
        facts: ModelFacts,
        mask_alias: int | None,
        name: Callable[[int], str],
        places: list[Place] | None = None,
    ) -> None:
        """name: the vocabulary's, of an id. places: of the tokens, where the encoding itself has lost them."""
        mask = facts.special_tokens.mask
        ids = np.array(encoding.ids, dtype=np.int64)
        if mask_alias is not None and mask is not None:
            ids[ids == mask_alias] = mask.id
        # One that was truncated keeps all that was cut off.
        self._encoding = encoding if places is None else None
        self._name = name
        self._kept_texts = encoding.tokens if places is not None else []
        self._places = places or []
        self._segments = encoding.sequence_ids if places is None else [segment for segment, _ in places]
        self.input_ids: Int64s = ids
        self.token_type_ids: Int64s = (
            np.array(encoding.type_ids, dtype=np.int64) if facts.segment_count > 1 else np.zeros_like(ids)
        )
        self.mask_positions = tuple(np.flatnonzero(ids == mask.id).tolist()) if mask is not None else ()
        self.masks_lost = (0, 0)
        self.truncated = False

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def is_empty(self) -> bool:
        """Whether the first text yields no token at all."""
        return 0 not in self._segments

    def count_masks(self, segment: int) -> int:
        """How many masks the text (0) or its pair (1) holds."""
        return sum(self._segments[position] == segment for position in self.mask_positions)

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """Every token with its place in the caller's text."""
        return tuple(self.token(index) for index in range(len(self)))

    # An encoding makes these lists anew each time it is asked for one.
    @cached_property
    def _offsets(self) -> list[tuple[int, int]]:
        return self._encoding.offsets if self._encoding is not None else [offsets for _, offsets in self._places]

    @cached_property
    def _texts(self) -> list[str]:
        """As they were read, which of unknown tokens may be any length."""
        return self._encoding.tokens if self._encoding is not None else self._kept_texts

    def token(self, index: int) -> Token:
        segment = self._segments[index]
        start, end = self._offsets[index] if segment is not None else (0, 0)
        read, token_id = self._texts[index], int(self.input_ids[index])
        # A mask token may take in the white space beside it, as the caller wrote it; vocabularies hold none.
        bare = read.strip()
        if segment is not None and bare:
            start, end = start + read.index(bare), end - (len(read) - len(read.rstrip()))
        return Token(
            text=self._name(token_id),
            id=token_id,
            segment=segment if segment is not None else int(self.token_type_ids[index]),
            start=start,
            end=end,
            special=segment is None,
        )


class Tokenizer:
    """The tokenizer of one bundle. Safe to use from several threads."""

    def __init__(self, path: Path, facts: ModelFacts) -> None:
        try:
            # As text it refuses a path that is not UTF-8, or is read in an ASCII locale.
            self._tokenizer = tokenizers.Tokenizer.from_buffer(path.read_bytes())
        except Exception as error:  # the Rust side raises bare Exception
            raise BundleError(f"{path}: not a tokenizer ({error}); export the bundle again") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._facts = facts
        is_known = self._tokenizer.token_to_id(LITERAL_MASK) is not None
        self._mask_alias = self._add_literal_mask()
        # No entry of the vocabulary, though the model may have a row of that number.
        self._added_id = None if is_known else self._mask_alias
        # In UTF-8, of all entries of the vocabulary.
        self.longest_token_bytes = self._measure_longest_token()

    def tokenize(self, texts: Sequence[Text], truncation: Truncation) -> list[TokenizedText]:
        """Tokenize texts in order. Raises TooManyTokens, with the text's index, where truncation is ERROR."""
        inputs = [(text.text, text.text_pair) if text.text_pair is not None else text.text for text in texts]
        encodings = (
            [self._tokenizer.encode(*inputs[0]) if isinstance(inputs[0], tuple) else self._tokenizer.encode(inputs[0])]
            if len(inputs) == 1
            else self._tokenizer.encode_batch(inputs)
        )
        limit = self._facts.max_tokens
        tokenized = []
        for index, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            if len(encoding) <= limit:
                tokenized.append(TokenizedText(encoding, self._facts, self._mask_alias, self.token_text))
            elif truncation is Truncation.ERROR:
                segments = encoding.sequence_ids
                pair_is_longer = segments.count(1) > segments.count(0)
                raise TooManyTokens(index, len(encoding), limit, pair_is_longer=pair_is_longer)
            else:
                tokenized.append(self._truncate(text, encoding, truncation))
        return tokenized

    def find_token(self, word: str) -> int | None:
        """The id of a vocabulary entry exactly as written, else of the one known token that the word becomes in running
        text; None where there is no such token."""
        exact = self._tokenizer.token_to_id(word)
        if exact is not None:
            return self._facts.special_tokens.mask.id if exact == self._mask_alias else exact  # type: ignore[union-attr]
        ids = self._tokenizer.encode(_as_running_text(word), add_special_tokens=False).ids
        unk = self._facts.special_tokens.unk
        return ids[0] if len(ids) == 1 and (unk is None or ids[0] != unk.id) else None

    def token_text(self, token_id: int) -> str:
        """The token as the vocabulary holds it; empty for one that it does not hold."""
        return self._tokenizer.id_to_token(token_id) or "" if token_id != self._added_id else ""

    def word(self, token_id: int) -> str:
        """The token as a person writes it, without continuation or space marks."""
        token = self.token_text(token_id)
        prefix = getattr(self._tokenizer.model, "continuing_subword_prefix", None)
        if prefix:
            return token.removeprefix(prefix)
        return self._tokenizer.decode([token_id], skip_special_tokens=False).strip() if token else ""

    def share(self, facts: ModelFacts) -> Tokenizer:
        """For another model with the same tokenizer.json and special tokens: one vocabulary in memory serves both."""
        other = copy.copy(self)
        other._facts = facts  # noqa: SLF001 - of its own class
        return other

    def _measure_longest_token(self) -> int:
        """One by one: a dictionary of all entries, which the library offers, takes tens of megabytes."""
        names = map(self._tokenizer.id_to_token, range(self._facts.vocabulary_size))
        return max(len((name or "").encode()) for name in names)

    def _add_literal_mask(self) -> int | None:
        mask = self._facts.special_tokens.mask
        if mask is None or mask.text == LITERAL_MASK:
            return None
        own = next((t for t in self._tokenizer.get_added_tokens_decoder().values() if t.content == mask.text), None)
        alias = tokenizers.AddedToken(
            LITERAL_MASK,
            lstrip=own.lstrip if own else False,
            rstrip=own.rstrip if own else False,
            normalized=False,
            special=True,
        )
        self._tokenizer.add_special_tokens([alias])
        return self._tokenizer.token_to_id(LITERAL_MASK)

    def _truncate(self, text: Text, whole: tokenizers.Encoding, truncation: Truncation) -> TokenizedText:
        """Cut each text on its own, then join them anew, so that special tokens stay."""
        is_pair = text.text_pair is not None
        first = self._tokenizer.encode(text.text, add_special_tokens=False)
        second = (
            self._tokenizer.encode(text.text_pair, add_special_tokens=False) if text.text_pair is not None else None
        )
        room = max(0, self._facts.max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair))
        keep_first, keep_second = share_room(len(first), len(second) if second is not None else 0, room)
        direction = "right" if truncation is Truncation.END else "left"
        first.truncate(keep_first, direction=direction)
        if second is not None:
            second.truncate(keep_second, direction=direction)
        cut = self._tokenizer.post_process(first, second, add_special_tokens=True)
        before = TokenizedText(whole, self._facts, self._mask_alias, self.token_text)
        after = TokenizedText(cut, self._facts, self._mask_alias, self.token_text, _places_of_parts(cut, first, second))
        after.masks_lost = (before.count_masks(0) - after.count_masks(0), before.count_masks(1) - after.count_masks(1))
        after.truncated = True
        return after


def _as_running_text(word: str) -> str:
    """After a space, where byte-level vocabularies have words of their own; to the others it means nothing."""
    return word if not word.strip() or word[0].isspace() else f" {word}"


def _places_of_parts(
    joined: tokenizers.Encoding, first: tokenizers.Encoding, second: tokenizers.Encoding | None
) -> list[Place]:
    """Of texts that were joined once they were tokenized, which makes `tokenizers` forget which token is of which text,
    and takes leading spaces off a second time."""
    parts: list[Place] = [(0, offsets) for offsets in first.offsets]
    parts += [(1, offsets) for offsets in second.offsets] if second is not None else []
    rest = iter(parts)
    return [(None, (0, 0)) if special else next(rest) for special in joined.special_tokens_mask]


def share_room(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of either text to keep, dropping from the longer one token by token; of equals the first loses.

    Gives what `tokenizers` gives with its strategy `longest_first`, truncation to `room` tokens.
    """
    if first + second <= room:
        return first, second
    shorter, longer = min(first, second), max(first, second)
    if shorter + shorter >= room:
        kept_shorter, kept_longer = room // 2, room - room // 2
    else:
        kept_shorter, kept_longer = shorter, room - shorter
    kept_longer = min(kept_longer, longer)
    return (kept_shorter, kept_longer) if first <= second else (kept_longer, kept_shorter)
