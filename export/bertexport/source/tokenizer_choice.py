"""The choice of a bundle's tokenizer: tokenizer.json if `transformers` reads texts as it says, else the library's own.

Every difference is followed, noted or refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from bertserve.bundle import TOKENIZER_NAME, ModelFacts, SpecialTokens
from bertserve.tokenizer import LITERAL_MASK, Text, Tokenizer, Truncation

from bertexport.errors import ExportError
from bertexport.source.checkpoint import read_json
from bertexport.source.library_tokenizer import LibraryTokenizer, load_library_tokenizer
from bertexport.source.sentence_files import SentenceFiles
from bertexport.source.sentence_settings import LIMIT
from bertexport.source.tokenizer_files import (
    PROBES,
    find_source,
    lowercase_first,
    read_special_tokens,
    read_tokenizer_json,
    take_tokenizer,
)
from bertexport.source.unknown_share import REFUSED_SHARE, measure_unknown, note_unknown

TEXT_SHOWN = 60
PROBED_PAIR = Text(text=PROBES[0], text_pair=PROBES[1])
AS_THE_FILE = f"Texts are read as {TOKENIZER_NAME} has it"


@dataclass(frozen=True, slots=True)
class TokenizerChoice:
    """library: None if AutoTokenizer cannot read the checkpoint. A note says so."""

    tokenizer: tokenizers.Tokenizer
    special_tokens: SpecialTokens
    library: LibraryTokenizer | None
    notes: tuple[str, ...]


def choose_tokenizer(sentence: SentenceFiles, vocabulary_size: int, texts: Sequence[Text]) -> TokenizerChoice:
    """texts: those that the bundle is verified on. Raises ExportError if no tokenizer fits the model and the texts."""
    directory = sentence.directory
    own, library, notes = _read_both(sentence, vocabulary_size)
    if sentence.lowercase:
        lowercase_first(own)
        if library is not None:
            library.lowercase_first()
    if library is not None:
        own, notes = _reconcile(own, library, sentence, vocabulary_size, texts)
    special_tokens = read_special_tokens(directory, own, library)
    share = measure_unknown(own, special_tokens, texts)
    notes = (*notes, *_note_own_code(directory), *note_unknown(share, directory))
    return TokenizerChoice(own, special_tokens, library, notes)


def _read_both(
    sentence: SentenceFiles, vocabulary_size: int
) -> tuple[tokenizers.Tokenizer, LibraryTokenizer | None, tuple[str, ...]]:
    """The checkpoint's own tokenizer and the library's, or a note why the library gives no tokenizer."""
    directory, settings = sentence.directory, sentence.tokenizer_settings
    is_whole = find_source(directory) == TOKENIZER_NAME
    own = read_tokenizer_json(directory, vocabulary_size) if is_whole else None
    try:
        library = load_library_tokenizer(directory, settings)
    except ExportError as error:
        # The file alone knows nothing of further settings.
        if own is None or set(settings) - {LIMIT}:
            raise ExportError(f"{directory}: {error}") from error
        return own, None, (f"{AS_THE_FILE}, since {error}.",)
    if own is None:
        own = take_tokenizer(library, directory, vocabulary_size)
    return own, library, ()


def _reconcile(
    own: tokenizers.Tokenizer,
    library: LibraryTokenizer,
    sentence: SentenceFiles,
    vocabulary_size: int,
    texts: Sequence[Text],
) -> tuple[tokenizers.Tokenizer, tuple[str, ...]]:
    """Take the library's tokenizer if it reads a text otherwise than the file says, and a bundle can hold it."""
    directory = sentence.directory
    probes = [*(Text(text=text) for text in (*PROBES, *library.added_texts)), PROBED_PAIR, *texts]
    difference = find_difference(own, library, probes)
    if difference is None:
        return own, ()
    try:
        other = take_tokenizer(library, directory, vocabulary_size)
        known = [
            1 - measure_unknown(tokenizer, read_special_tokens(directory, tokenizer, library), texts)
            for tokenizer in (own, other)
        ]
    except ExportError:
        return own, (_note_difference(difference),)
    # A class that does not fit the files makes a tokenizer of special tokens alone, without a word.
    if known[1] < min(known[0], 1 - REFUSED_SHARE) or find_difference(other, library, probes) is not None:
        return own, (_note_difference(difference),)
    note = f"Texts are read as transformers' {library.class_name} does, and some not as {TOKENIZER_NAME} says"
    return other, (f"{note}: {_show(difference)}.",)


def find_difference(tokenizer: tokenizers.Tokenizer, library: LibraryTokenizer, texts: Sequence[Text]) -> Text | None:
    """The first text with other ids or type ids than the library gives."""
    for text in texts:
        pair = (text.text_pair,) if text.text_pair is not None else ()
        encoding, reading = tokenizer.encode(text.text, *pair), library.read(text)
        if encoding.ids != reading.ids or reading.type_ids not in (None, encoding.type_ids):
            return text
    return None


def note_tokenizer(
    choice: TokenizerChoice, tokenizer: Tokenizer, facts: ModelFacts, texts: Sequence[Text]
) -> tuple[str, ...]:
    """tokenizer: the chosen one as it is served. Notes a text that the model sees otherwise than in the library."""
    if choice.library is None or any(note.startswith(AS_THE_FILE) for note in choice.notes):
        return choice.notes
    difference = _find_served_difference(tokenizer, choice.library, facts, [PROBED_PAIR, *texts])
    if difference is None:
        return choice.notes
    return (*choice.notes, f"The model sees some texts otherwise than in transformers: {_show(difference)}.")


def _find_served_difference(
    tokenizer: Tokenizer, library: LibraryTokenizer, facts: ModelFacts, texts: Sequence[Text]
) -> Text | None:
    """The first text of which a bundle gives the model other ids or type ids than the library does, cut ones too."""
    mask = facts.special_tokens.mask
    for text in texts:
        (served,) = tokenizer.tokenize([text], Truncation.END)
        reading = library.read(_with_own_mask(text, mask.text if mask is not None else None), facts.max_tokens)
        told = reading.type_ids if facts.segment_count > 1 and reading.type_ids is not None else [0] * len(served)
        if served.input_ids.tolist() != reading.ids or served.token_type_ids.tolist() != told:
            return text
    return None


def _with_own_mask(text: Text, mask: str | None) -> Text:
    """A literal mask is the model's own to a bundle."""
    if mask is None:
        return text
    pair = text.text_pair.replace(LITERAL_MASK, mask) if text.text_pair is not None else None
    return Text(text=text.text.replace(LITERAL_MASK, mask), text_pair=pair)


def _note_difference(text: Text) -> str:
    return f"{AS_THE_FILE}; transformers' AutoTokenizer reads some otherwise: {_show(text)}."


def _note_own_code(directory: Path) -> tuple[str, ...]:
    path = directory / "tokenizer_config.json"
    if not path.is_file() or "auto_map" not in read_json(path):
        return ()
    return (f"{path.name} names code of its own (auto_map), which was not run: texts are read without it.",)


def _show(text: Text) -> str:
    shown = text.text if text.text_pair is None else f"{text.text} ||| {text.text_pair}"
    return repr(shown if len(shown) <= TEXT_SHOWN else f"{shown[:TEXT_SHOWN]}…")
