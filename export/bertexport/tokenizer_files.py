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

from bertexport.checkpoint import read_family, read_json
from bertexport.errors import ExportError
from bertexport.weight_files import check_readable

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


def read_tokenizer(directory: Path, vocabulary_size: int) -> tokenizers.Tokenizer:
    """From tokenizer.json, else built by `transformers` from one of SOURCES. Raises ExportError."""
    source = next((name for name in (TOKENIZER_NAME, *SOURCES) if (directory / name).is_file()), None)
    if source is None:
        raise ExportError(f"{directory} holds no tokenizer; looked for {TOKENIZER_NAME}, {', '.join(SOURCES)}")
    for name in (source, *SOURCES.get(source, ()), ADDED_TOKENS):
        if (directory / name).is_file():
            check_readable(directory / name)
    is_whole = source == TOKENIZER_NAME
    tokenizer = _read_json_form(directory) if is_whole else _build(directory, source, vocabulary_size)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _check(tokenizer, directory, vocabulary_size)
    return tokenizer


def find_other_reading(directory: Path, tokenizer: tokenizers.Tokenizer) -> str | None:
    """A text that `transformers` reads otherwise, if one of a few shows it; None where it cannot read the files."""
    try:
        own = _load(directory)
        added = [token for token in own.get_added_vocab() if token not in own.all_special_tokens]
        readings = {text: own(text, truncation=False, padding=False).input_ids for text in (*PROBES, *added)}
    except Exception:  # whatever the files hold comes out as many classes
        return None
    return next((text for text, ids in readings.items() if ids != tokenizer.encode(text).ids), None)


def lowercase_first(tokenizer: tokenizers.Tokenizer) -> None:
    """Let it lower-case texts before all else; one that lower-cases anyway stays as it is."""
    own, lowercase = tokenizer.normalizer, normalizers.Lowercase()
    if not getattr(own, "lowercase", False):
        tokenizer.normalizer = normalizers.Sequence([lowercase, own]) if own is not None else lowercase


def save_tokenizer(tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Raises OSError, which the Rust side would turn into a bare Exception."""
    path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="")


def read_special_tokens(directory: Path, tokenizer: tokenizers.Tokenizer) -> SpecialTokens:
    """By the checkpoint's settings, else by DEFAULT_TOKENS. Raises ExportError where cls, sep or pad are missing."""
    names = dict(DEFAULT_TOKENS)
    for file in reversed(SETTINGS_FILES):
        if (directory / file).is_file():
            names.update(_stated_names(read_json(directory / file)))
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


def _check(tokenizer: tokenizers.Tokenizer, directory: Path, vocabulary_size: int) -> None:
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


def _build(directory: Path, source: str, vocabulary_size: int) -> tokenizers.Tokenizer:
    """Casing, accents and much else are settings of `transformers`' class, so it is that class that builds it."""
    if missing := [name for name in SOURCES[source] if not (directory / name).is_file()]:
        raise ExportError(f"{directory}: the tokenizer's {source} needs {missing[0]} beside it")
    built = _load(directory, source)
    if not built.is_fast:
        raise ExportError(f"{directory}: its {type(built).__name__} runs in Python alone and cannot become a bundle's")
    content = json.loads(built.backend_tokenizer.to_str())
    # Special tokens that a vocabulary lacks are put behind it, where the model has no rows: it has none of them.
    special = {str(getattr(built, role)) for role in DEFAULT_TOKENS}
    content["added_tokens"] = [
        token
        for token in content["added_tokens"]
        if not (token["id"] >= vocabulary_size and token["content"] in special)
    ]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def _load(directory: Path, source: str = TOKENIZER_NAME) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, **_stated_family(directory)
        )
    except Exception as error:  # whatever the files hold comes out as many classes
        raise ExportError(f"{directory}: no tokenizer from {source}: {' '.join(str(error).split())}") from error


def _stated_family(directory: Path) -> dict[str, Any]:
    """What AutoTokenizer chooses its class by, if config.json does not say it."""
    import transformers

    config = read_json(directory / "config.json")
    if config.get("model_type") is not None:
        return {}
    return {"config": transformers.AutoConfig.for_model(read_family(config).name)}


def _stated_names(settings: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Role → text; a token is stated as its text or as an object that holds it."""
    stated = {role: settings[role] for role in DEFAULT_TOKENS if settings.get(role)}
    return {role: (str(token.get("content") if isinstance(token, dict) else token),) for role, token in stated.items()}


def _find_token(tokenizer: tokenizers.Tokenizer, texts: tuple[str, ...]) -> SpecialToken | None:
    """The first of the texts that the vocabulary holds."""
    found = ((tokenizer.token_to_id(text), text) for text in texts)
    return next((SpecialToken(id=token_id, text=text) for token_id, text in found if token_id is not None), None)
