"""The facts that a tokenizer decides: the longest input, and whether a model is told the segments of a pair."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bertexport.encoders.architecture import Architecture
from bertexport.errors import ExportError
from bertexport.source.sentence_files import SentenceFiles
from bertexport.source.sentence_settings import LIMIT
from bertexport.source.tokenizer_choice import TokenizerChoice

TEXT, PAIR = "one", "two"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFacts:
    """In the words of ModelFacts. notes: settings that a bundle follows otherwise than the library, or not."""

    max_tokens: int
    segment_count: int
    notes: tuple[str, ...]


def read_tokenizer_facts(
    choice: TokenizerChoice, architecture: Architecture, sentence: SentenceFiles, *, has_types: bool
) -> TokenizerFacts:
    """has_types: whether the model has a table of token types. Raises ExportError if a pair has more than the model."""
    rows = architecture.token_types
    types = _find_types(choice)
    told = max(types) if types else 0
    if rows > 1 and told >= rows:
        raise ExportError(
            f"{sentence.directory}: the tokenizer gives type ids up to {told}, the model's table ends at {rows - 1} "
            "(type_vocab_size in config.json); they do not belong together"
        )
    limit = _find_limit(choice, sentence)
    if limit < 1:
        raise ExportError(
            f"{sentence.directory}: model_max_length of the tokenizer is {limit}, a positive whole number is needed"
        )
    return TokenizerFacts(
        max_tokens=min(architecture.longest_text, limit),
        segment_count=rows if types else 1,
        notes=(
            *_note_segments(rows, types, has_table=has_types),
            *_note_limit(choice, architecture, sentence),
        ),
    )


def _find_types(choice: TokenizerChoice) -> list[int]:
    """Type ids of a pair; empty if the model is told none."""
    if choice.library is not None and not choice.library.gives_segments:
        return []
    return list(choice.tokenizer.encode(TEXT, PAIR).type_ids)


def _find_limit(choice: TokenizerChoice, sentence: SentenceFiles) -> int:
    """Whatever states it: AutoTokenizer has read the files of sentence-transformers, too."""
    if choice.library is not None:
        return choice.library.limit
    return int(sentence.tokenizer_settings.get(LIMIT) or sys.maxsize)


def _note_segments(rows: int, types: list[int], *, has_table: bool) -> Iterator[str]:
    if rows > 1 and not types:
        yield (
            "The model is not told which text of a pair a token is of: the tokenizer's model_input_names leave out "
            "token_type_ids."
        )
    if rows == 1 and has_table and any(types):
        yield (
            f"The tokenizer gives type ids up to {max(types)} for a pair, and the model has one row for them: a bundle "
            "gives 0, and transformers cannot run such a pair."
        )


def _note_limit(choice: TokenizerChoice, architecture: Architecture, sentence: SentenceFiles) -> Iterator[str]:
    stated = sentence.tokenizer_settings.get(LIMIT)
    if stated is not None and stated > architecture.longest_text:
        yield (
            f"sentence-transformers' files allow {stated} tokens, the model has positions for "
            f"{architecture.longest_text}: that is the limit."
        )
    if choice.library is not None and choice.library.cuts_the_start:
        yield "transformers cuts the start of a text that is too long (truncation_side left); callers ask for it here."
