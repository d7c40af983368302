"""How much of the texts a tokenizer does not know. One that knows next to nothing is not the model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers
from bertserve.bundle import SpecialTokens
from bertserve.tokenizer import LITERAL_MASK, Text

from bertexport.errors import ExportError

# Texts in a script that a model was not made for leave digits and signs: far more than a tenth is known of others.
REFUSED_SHARE = 0.9
NOTED_SHARE = 0.2


def measure_unknown(tokenizer: tokenizers.Tokenizer, special: SpecialTokens, texts: Sequence[Text]) -> float:
    """The unknown share of the texts, by tokens or by characters, whichever is higher; special tokens do not count."""
    roles = (special.cls, special.sep, special.pad, special.mask)
    passed = {token.id for token in roles if token is not None}
    unknown = special.unk.id if special.unk is not None else None
    mask = special.mask.text if special.mask is not None else LITERAL_MASK
    tokens = lost_tokens = characters = read_characters = 0
    for text in (part for pair in texts for part in (pair.text, pair.text_pair) if part):
        own = text.replace(LITERAL_MASK, mask)
        encoding = tokenizer.encode(own, add_special_tokens=False)
        left = {place for place, character in enumerate(own) if not character.isspace()}
        read: set[int] = set()
        for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token_id in passed:
                left -= set(range(start, end))
                continue
            tokens += 1
            lost_tokens += token_id == unknown
            if token_id != unknown:
                read.update(range(start, end))
        characters += len(left)
        read_characters += len(left & read)
    if not tokens:
        return 1.0
    return max(lost_tokens / tokens, 1 - read_characters / max(1, characters))


def note_unknown(share: float, directory: Path) -> tuple[str, ...]:
    """Raises ExportError if nearly all is unknown."""
    if share >= REFUSED_SHARE:
        raise ExportError(
            f"{directory}: the tokenizer knows nearly nothing of the texts that it is tried on ({share:.0%} unknown); "
            "are its files of the kind that AutoTokenizer expects of this model? If it is made for another language, "
            "give texts in it with --verify"
        )
    if share > NOTED_SHARE:
        return (f"The tokenizer does not know {share:.0%} of the texts that the bundle was verified on.",)
    return ()
