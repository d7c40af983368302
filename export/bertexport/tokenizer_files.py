"""The checkpoint's tokenizer as a bundle holds it: without truncation and padding, and its special tokens by role.

Checkpoints hide both settings in tokenizer.json, where they would silently cut every text that is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from bertserve.bundle import TOKENIZER_NAME, SpecialToken, SpecialTokens

from bertexport.checkpoint import read_json
from bertexport.errors import ExportError

SETTINGS_FILES = ("special_tokens_map.json", "tokenizer_config.json")
DEFAULT_TOKENS = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


def read_tokenizer(directory: Path, vocabulary_size: int) -> tokenizers.Tokenizer:
    """From tokenizer.json as it is, else built by `transformers` from vocab.txt. Raises ExportError."""
    if (directory / TOKENIZER_NAME).is_file():
        tokenizer = _read_json_form(directory / TOKENIZER_NAME)
    elif (directory / "vocab.txt").is_file():
        tokenizer = _build_from_vocabulary(directory)
    else:
        raise ExportError(f"{directory} holds no tokenizer; looked for {TOKENIZER_NAME} and vocab.txt")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= vocabulary_size:
        raise ExportError(
            f"{directory}: the tokenizer has token ids up to {highest}, the model's vocabulary ends at "
            f"{vocabulary_size - 1}; they do not belong together"
        )
    return tokenizer


def save_tokenizer(tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Raises OSError, which the Rust side would turn into a bare Exception."""
    path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="")


def read_special_tokens(directory: Path, tokenizer: tokenizers.Tokenizer) -> SpecialTokens:
    """By the checkpoint's settings, else by BERT's names. Raises ExportError where cls, sep or pad are missing."""
    names = dict(DEFAULT_TOKENS)
    for file in reversed(SETTINGS_FILES):
        if (directory / file).is_file():
            names.update(_stated_names(read_json(directory / file)))
    tokens = {role.removesuffix("_token"): _find_token(tokenizer, text) for role, text in names.items()}
    if missing := [role for role in ("cls", "sep", "pad") if tokens[role] is None]:
        role = missing[0]
        raise ExportError(f"{directory}: the tokenizer has no {role} token {names[f'{role}_token']!r}")
    return SpecialTokens.model_validate(tokens)


def _read_json_form(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise ExportError(f"{path} is not a tokenizer: {' '.join(str(error).split())}") from error


def _build_from_vocabulary(directory: Path) -> tokenizers.Tokenizer:
    """Casing and accents are settings of `transformers`' class, so it is that class that builds the tokenizer."""
    import transformers

    try:
        built = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever the files hold comes out as many classes
        raise ExportError(f"{directory}: no tokenizer from vocab.txt: {' '.join(str(error).split())}") from error
    return tokenizers.Tokenizer.from_str(built.backend_tokenizer.to_str())


def _stated_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Role → text; a token is stated as its text or as an object that holds it."""
    stated = {role: settings[role] for role in DEFAULT_TOKENS if settings.get(role)}
    return {role: str(token.get("content") if isinstance(token, dict) else token) for role, token in stated.items()}


def _find_token(tokenizer: tokenizers.Tokenizer, text: str) -> SpecialToken | None:
    token_id = tokenizer.token_to_id(text)
    return SpecialToken(id=token_id, text=text) if token_id is not None else None
