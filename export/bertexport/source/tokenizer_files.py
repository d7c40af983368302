"""The checkpoint's tokenizer as a bundle holds it: without truncation and padding, and its special tokens by role.

Checkpoints hide both settings in tokenizer.json, where they would silently cut every text that is served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from bertserve.bundle import TOKENIZER_NAME, SpecialToken, SpecialTokens
from tokenizers import normalizers

from bertexport.errors import ExportError
from bertexport.source.checkpoint import read_json
from bertexport.source.library_tokenizer import LibraryTokenizer
from bertexport.source.weight_files import check_readable

ADDED_TOKENS = "added_tokens.json"
SETTINGS_FILES = ("special_tokens_map.json", "tokenizer_config.json")
# Files from which `transformers` builds a tokenizer, each with those that it needs beside it.
SOURCES: dict[str, tuple[str, ...]] = {
    "vocab.txt": (),
    "vocab.json": ("merges.txt",),
    "sentencepiece.bpe.model": (),
}
# What BERT's classes in `transformers` do to a text by tokenizer_config.json, whatever tokenizer.json says → by what
# name the normalizer has it. PLAIN_CLASSES take tokenizer.json as it is.
STATED_NORMALIZATION = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Texts in which tokenizers differ: case, accents, scripts, spaces, what is unknown.
PROBES = ("The CAT sat.", "Été à Zürich, naïve", "東京 2024", " e.g.  don't\t☃", "[UNK] <unk>")
# Where no file says, BERT's names, else RoBERTa's.
DEFAULT_TOKENS: dict[str, tuple[str, ...]] = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def find_source(directory: Path) -> str:
    """The file that holds the tokenizer: tokenizer.json, else one of SOURCES. Raises ExportError without one."""
    source = next((name for name in (TOKENIZER_NAME, *SOURCES) if (directory / name).is_file()), None)
    if source is None:
        raise ExportError(f"{directory} holds no tokenizer; looked for {TOKENIZER_NAME}, {', '.join(SOURCES)}")
    for name in (source, *SOURCES.get(source, ()), ADDED_TOKENS):
        if (directory / name).is_file():
            check_readable(directory / name)
    if missing := [name for name in SOURCES.get(source, ()) if not (directory / name).is_file()]:
        raise ExportError(f"{directory}: the tokenizer's {source} needs {missing[0]} beside it")
    return source


def read_tokenizer_json(directory: Path, vocabulary_size: int) -> tokenizers.Tokenizer:
    """From tokenizer.json and the settings beside it. Raises ExportError."""
    return _finish(_read_json_form(directory), directory, vocabulary_size)


def take_tokenizer(library: LibraryTokenizer, directory: Path, vocabulary_size: int) -> tokenizers.Tokenizer:
    """The one that `transformers` made of the files. Raises ExportError if a bundle cannot hold it.

    Casing, accents and much else are settings of its classes, so it is they that build a tokenizer.
    """
    if not library.is_fast:
        raise ExportError(f"{directory}: its {library.class_name} runs in Python alone and cannot become a bundle's")
    content = json.loads(library.as_json())
    # Special tokens that a vocabulary lacks are put behind it, where the model has no rows: it has none of them.
    content["added_tokens"] = [
        token
        for token in content["added_tokens"]
        if not (token["id"] >= vocabulary_size and token["content"] in library.special_texts)
    ]
    return _finish(tokenizers.Tokenizer.from_str(json.dumps(content)), directory, vocabulary_size)


def lowercase_first(tokenizer: tokenizers.Tokenizer) -> None:
    """Let it lower-case texts before all else; one that lower-cases anyway stays as it is."""
    own, lowercase = tokenizer.normalizer, normalizers.Lowercase()
    if not getattr(own, "lowercase", False):
        tokenizer.normalizer = normalizers.Sequence([lowercase, own]) if own is not None else lowercase


def save_tokenizer(tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Raises OSError, which the Rust side would turn into a bare Exception."""
    path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="")


def read_special_tokens(
    directory: Path, tokenizer: tokenizers.Tokenizer, library: LibraryTokenizer | None = None
) -> SpecialTokens:
    """By the library's word, else by the checkpoint's files, else by DEFAULT_TOKENS: the first that is known.

    Raises ExportError if cls, sep or pad are missing.
    """
    names = dict(DEFAULT_TOKENS)
    for file in reversed(SETTINGS_FILES):
        if (directory / file).is_file():
            names.update(_stated_names(read_json(directory / file)))
    for role, text in library.special_names(DEFAULT_TOKENS).items() if library is not None else ():
        names[role] = (text, *names[role])
    tokens = {role.removesuffix("_token"): _find_token(tokenizer, texts) for role, texts in names.items()}
    if missing := [role for role in ("cls", "sep", "pad") if tokens[role] is None]:
        role = missing[0]
        raise ExportError(f"{directory}: the tokenizer has no {role} token {' or '.join(names[f'{role}_token'])}")
    return SpecialTokens.model_validate(tokens)


def _read_json_form(directory: Path) -> tokenizers.Tokenizer:
    path = directory / TOKENIZER_NAME
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise ExportError(f"{path} is not a tokenizer: {' '.join(str(error).split())}") from error
    if (directory / "tokenizer_config.json").is_file():
        _normalize_as_stated(tokenizer, read_json(directory / "tokenizer_config.json"))
    return tokenizer


def _normalize_as_stated(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """As `transformers` does: a model that was trained through it saw its texts so."""
    normalizer = tokenizer.normalizer
    if isinstance(normalizer, normalizers.BertNormalizer) and settings.get("tokenizer_class") not in PLAIN_CLASSES:
        for setting, name in STATED_NORMALIZATION.items():
            if isinstance(settings.get(setting), bool):
                setattr(normalizer, name, settings[setting])


def _finish(tokenizer: tokenizers.Tokenizer, directory: Path, vocabulary_size: int) -> tokenizers.Tokenizer:
    """Without truncation and padding. Raises ExportError if it does not fit the model, or cannot read a text."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= vocabulary_size:
        raise ExportError(
            f"{directory}: the tokenizer has token ids up to {highest}, the model's vocabulary ends at "
            f"{vocabulary_size - 1}; they do not belong together"
        )
    for text in PROBES:
        try:
            tokenizer.encode(text)
        except Exception as error:  # the Rust side raises bare Exception
            raise ExportError(
                f"{directory}: the tokenizer cannot read {text!r} ({error}); its vocabulary needs a token for what it "
                "does not know"
            ) from error
    return tokenizer


def _stated_names(settings: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Role → text; a token is stated as its text or as an object that holds it."""
    stated = {role: settings[role] for role in DEFAULT_TOKENS if settings.get(role)}
    return {role: (str(token.get("content") if isinstance(token, dict) else token),) for role, token in stated.items()}


def _find_token(tokenizer: tokenizers.Tokenizer, texts: tuple[str, ...]) -> SpecialToken | None:
    """The first of the texts that the vocabulary holds."""
    found = ((tokenizer.token_to_id(text), text) for text in texts)
    return next((SpecialToken(id=token_id, text=text) for token_id, text in found if token_id is not None), None)
