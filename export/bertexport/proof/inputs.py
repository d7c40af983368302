"""What a bundle is verified on: texts and pairs of many lengths, with and without masks, tokenized as served."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Literal

from bertserve.bundle import Head
from bertserve.engine.items import Item, Wanted
from bertserve.engine.ort.run_memory import LONG_TEXT_TOKENS
from bertserve.heads.registry import HEADS
from bertserve.tokenizer import LITERAL_MASK, Text, TokenizedText, Tokenizer, Truncation

from bertexport.encoders.architecture import Architecture
from bertexport.errors import ExportError
from bertexport.heads.contract import Probe
from bertexport.heads.registry import EXPORTED_HEADS

# What texts are for. A bundle is verified on others than those that its precision was calibrated on.
Use = Literal["verify", "calibration"]
BUILT_IN: dict[Use, str] = {"verify": "verification.txt", "calibration": "calibration.txt"}

WORD_COUNTS = (1, 2, 3, 5, 8, 12, 18, 25, 40, 60, 90, 140, 220, 340)
WORDS_PER_MASK = 7
# Of a pair that does not belong together, the second sentence stands this far from the first.
OTHER_SENTENCE = 11
# More tokens than LONG_TEXT_TOKENS, since a word is a token at least.
LONG_TEXT_WORDS = LONG_TEXT_TOKENS + 32


def read_texts(path: Path | None, use: Use = "verify") -> list[Text]:
    """A file with a text a line, a tab between the texts of a pair; the built-in texts where there is none.

    Varied as for a model with a masked-LM head.
    """
    return vary(read_text_file(path, f"--{use}") if path is not None else None, use, masked=True)


def vary(texts: list[Text] | None, use: Use = "verify", *, masked: bool) -> list[Text]:
    """What a model is run on: given texts, each exactly as written, or the built-in ones if None.

    masked: the model has a masked-LM head. Copies of given texts with masks follow then, and some of the built-in
    texts have masks. Other models never see a mask that nobody wrote.
    """
    if texts is None:
        mask = _mask if masked else _leave
        return list(_vary(_read_built_in(use), mask))
    copies = (_mask(text.text, text.text_pair, first=index) for index, text in enumerate(texts)) if masked else ()
    # A text with masks of its own has no copy; neither has one that is too short to lose a word.
    given = set(texts)
    return [*texts, *(copy for copy in copies if copy not in given)]


def read_long_texts(architecture: Architecture) -> list[Text]:
    """A built-in text that takes the graph's way for long texts; no text if the model has no such way."""
    if architecture.longest_text <= LONG_TEXT_TOKENS:
        return []
    words = " ".join(_read_built_in("verify")).split()
    repeated = itertools.islice(itertools.cycle(words), LONG_TEXT_WORDS)
    text = " ".join(repeated)
    return [_mask(text) if Head.MASKED_LM in architecture.heads else Text(text=text)]


def read_text_file(path: Path, option: str) -> list[Text]:
    """Texts as they stand in a UTF-8 file, one a line, a tab between those of a pair; empty lines are none.

    option: what the file was given for, for the ExportError where it cannot be read or holds no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{option} {path} cannot be read: {error.strerror}") from error
    try:
        # With the mark that some editors begin a file with, which is none of its text.
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ExportError(f"{option} {path} is not UTF-8 (line {line}); save it in that encoding") from error
    # Split at line ends alone: str.splitlines would also cut at characters that a text may hold, such as U+2028.
    pairs = [line.rstrip("\r").split("\t", 1) for line in decoded.split("\n") if line.strip()]
    if not pairs:
        raise ExportError(f"{option} {path} holds no text; write one a line, a tab between the texts of a pair")
    return [Text(text=pair[0], text_pair=pair[1] if len(pair) > 1 else None) for pair in pairs]


def make_items(tokenizer: Tokenizer, texts: list[Text], architecture: Architecture, use: Use = "verify") -> list[Item]:
    """Items that want all that the heads give. Too long ones lose their end; those without a token are left out.

    Raises ExportError where none is left; use: what they are for.
    """
    tokenized = tokenizer.tokenize(texts, Truncation.END)
    items = [
        Item(input_ids=t.input_ids, token_type_ids=t.token_type_ids, wanted=_want_all(t, text, architecture))
        for t, text in zip(tokenized, texts, strict=True)
        if not t.is_empty
    ]
    if not items:
        raise ExportError(f"none of the texts for --{use} yields a token; is the tokenizer the model's own?")
    return items


def fill_gaps(items: list[Item], built_in: list[Item], heads: tuple[Head, ...]) -> tuple[list[Item], list[Head]]:
    """The items, and of the built-in ones those that ask heads which none of these asks; and these heads."""
    gaps = [head for head in heads if not any(HEADS[head].is_asked(item.wanted) for item in items)]
    return [*items, *(item for item in built_in if any(HEADS[head].is_asked(item.wanted) for head in gaps))], gaps


def _read_built_in(use: Use) -> list[str]:
    """Sentences."""
    return (resources.files("bertexport") / "texts" / BUILT_IN[use]).read_text(encoding="utf-8").splitlines()


def _vary(sentences: list[str], mask: Callable[..., Text]) -> Iterator[Text]:
    """Plain texts, texts and pairs to mask, of every length in words; then pairs of single sentences."""
    words = " ".join(sentences).split()
    for number, count in enumerate(WORD_COUNTS):
        for variant in range(3):
            start = (number * 97 + variant * 31) % (len(words) - 1)
            text = (words[start:] + words)[:count]
            half = (count + 1) // 2 if variant == 2 else count
            pair = " ".join(text[half:]) if variant == 2 else None
            yield mask(" ".join(text[:half]), pair, first=number) if variant else Text(text=" ".join(text))
    for index, sentence in enumerate(sentences):
        step = 1 if index % 2 == 0 else OTHER_SENTENCE
        yield mask(sentence, sentences[(index + step) % len(sentences)], first=index)


def _mask(text: str, pair: str | None = None, first: int = 0) -> Text:
    """Put a mask in the place of every seventh word, the first of them varied; texts with masks stay as they are."""
    if LITERAL_MASK in text + (pair or ""):
        return Text(text=text, text_pair=pair)
    words = text.split()
    for place in range(first % WORDS_PER_MASK, len(words), WORDS_PER_MASK):
        words[place] = LITERAL_MASK
    return Text(text=" ".join(words), text_pair=pair)


def _leave(text: str, pair: str | None = None, first: int = 0) -> Text:  # noqa: ARG001 (in the place of _mask)
    return Text(text=text, text_pair=pair)


def _want_all(tokenized: TokenizedText, text: Text, architecture: Architecture) -> Wanted:
    probe = Probe(
        masks=tokenized.mask_positions,
        is_pair=text.text_pair is not None,
        layer_count=architecture.layer_count,
        vocabulary_size=architecture.vocabulary_size,
    )
    wanted = Wanted()
    for head in architecture.heads:
        wanted = EXPORTED_HEADS[head].ask(wanted, probe)
    return wanted
