"""The files that sentence-transformers keeps beside a checkpoint: where it lies, and what becomes of its vectors.

Every setting is followed, noted or refused. `sentence_settings` reads the settings of the model's own module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertserve.bundle import Pooling, Similarity

from bertexport.errors import ExportError
from bertexport.source.checkpoint import read_json
from bertexport.source.sentence_settings import (
    CROSS_ENCODER,
    SENTENCE_TRANSFORMER,
    SETTINGS_FILES,
    Output,
    read_model_settings,
)
from bertexport.source.weight_files import check_readable

LIBRARY = "sentence_transformers."
# The modules that a bundle can do, in the order in which it does them.
MODULES = ("Transformer", "Pooling", "Normalize")
# This module acts in training only.
IDLE_MODULE = "Dropout"
ROOT_SETTINGS = "config_sentence_transformers.json"
POOLINGS = {"cls": Pooling.CLS, "mean": Pooling.MEAN, "max": Pooling.MAX}
# Earlier versions wrote a flag for each mode. The order is the one in which several modes are concatenated.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLING_KEYS = {"pooling_mode", "include_prompt", "embedding_dimension", "word_embedding_dimension", *POOLING_FLAGS}
NORMALIZED = "sentence_embedding"
PROMPTS_SHOWN = 4
ENCODER_ALONE = "to serve the encoder alone, export the folder of its weights without modules.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceFiles:
    """directory: holds config.json and the weights. lowercase: whether texts are lower-cased before all else.

    tokenizer_settings: arguments of `AutoTokenizer.from_pretrained`; its model_max_length is the longest input.
    prompts: by name, without empty ones. default_prompt: a name among them. similarity: if the folder states one.
    notes: settings that are not followed, or that callers have to follow themselves.
    """

    directory: Path
    pooling: Pooling = Pooling.MEAN
    normalize: bool = False
    lowercase: bool = False
    tokenizer_settings: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: Similarity | None = None
    notes: tuple[str, ...] = ()


def read_sentence_files(root: Path) -> SentenceFiles:
    """Defaults if `root` is an ordinary checkpoint. Raises ExportError if a setting changes vectors unsupportedly."""
    if not (root / "modules.json").is_file():
        return SentenceFiles(directory=root, notes=tuple(_note_idle_settings(root)))
    model_config = _read_where_given(root / ROOT_SETTINGS)
    model_type = _read_model_type(root, model_config)
    folders = _read_modules(root / "modules.json")
    directory = root / folders["Transformer"]
    settings = read_model_settings(directory, model_type)
    pooling, include_prompt = _choose_pooling(root, folders, settings.output)
    _check_normalize(root, folders)
    prompts = _read_prompts(model_config)
    default_prompt = _read_default_prompt(model_config, prompts)
    if prompts and not include_prompt:
        raise ExportError(
            f"{root / folders['Pooling'] / 'config.json'}: include_prompt false leaves the tokens of a prompt out of "
            "the vector, and a bundle cannot; set it to true to serve vectors of prompt and text, or "
            f"{ENCODER_ALONE}"
        )
    return SentenceFiles(
        directory=directory,
        pooling=pooling,
        normalize="Normalize" in folders,
        lowercase=settings.lowercase,
        tokenizer_settings=settings.tokenizer_settings,
        prompts=prompts,
        default_prompt=default_prompt,
        similarity=_read_similarity(root, model_config),
        notes=(
            *_note_prompts(prompts, default_prompt, include_prompt=include_prompt),
            *_note_pooling(folders, settings.output),
            *_note_dimension(model_config),
            *settings.notes,
        ),
    )


def _read_model_type(root: Path, model_config: Mapping[str, Any]) -> str:
    model_type = model_config.get("model_type", SENTENCE_TRANSFORMER)
    if model_type not in (SENTENCE_TRANSFORMER, CROSS_ENCODER):
        raise ExportError(
            f"{root / ROOT_SETTINGS}: model_type {model_type!r} cannot be served; supported: {SENTENCE_TRANSFORMER}, "
            f"{CROSS_ENCODER}; {ENCODER_ALONE}"
        )
    return str(model_type)


def _read_modules(path: Path) -> dict[str, str]:
    """Kind of each module → its folder. Raises ExportError: unreadable, not the library's own, or unsupported."""
    check_readable(path)
    try:
        steps: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        modules = [(str(step["type"]), str(step["path"])) for step in steps]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExportError(f"{path}: not a list of modules with type and path") from error
    if any(Path(folder).is_absolute() or ".." in Path(folder).parts for _, folder in modules):
        raise ExportError(f"{path}: a module lies outside of the checkpoint's folder")
    supported = f"supported: {', '.join(MODULES)} of sentence-transformers, in this order; {ENCODER_ALONE}"
    foreign = next((kind for kind, _ in modules if not kind.startswith(LIBRARY)), None)
    if foreign is not None:
        raise ExportError(f"{path}: module {foreign} is code of the checkpoint's own, which is not run; {supported}")
    kinds = [(kind.rsplit(".", 1)[-1], folder) for kind, folder in modules]
    active = [(kind, folder) for kind, folder in kinds if kind != IDLE_MODULE]
    if not active:
        raise ExportError(f"{path} names no module; {supported}")
    order = [kind for kind in MODULES if kind != "Pooling" or any(kind == found for found, _ in active)]
    stray = next((kind for (kind, _), known in zip(active, (*order, ""), strict=False) if kind != known), None)
    if stray is not None:
        raise ExportError(f"{path}: module {stray} cannot be served there; {supported}")
    return dict(active)


def _choose_pooling(root: Path, folders: Mapping[str, str], output: Output) -> tuple[Pooling, bool]:
    """How vectors are pooled, and whether the tokens of a prompt are pooled too."""
    if "Pooling" not in folders:
        return (Pooling.POOLER if output is Output.POOLED else Pooling.MEAN), True
    if output is not Output.TOKENS:
        raise ExportError(
            f"{root / 'modules.json'}: module Pooling follows a Transformer that gives {output.value}, not tokens"
        )
    return _read_pooling(root / folders["Pooling"] / "config.json")


def _read_pooling(path: Path) -> tuple[Pooling, bool]:
    """Read the mode as sentence-transformers does: by name or in a list, else by flags, else the mean."""
    config = read_json(path)
    if unknown := sorted(set(config) - POOLING_KEYS):
        raise ExportError(f"{path}: {unknown[0]} is not a known setting of Pooling, so vectors might differ")
    flags = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)]
    stated = config.get("pooling_mode", flags or "mean")
    modes = [str(mode) for mode in stated] if isinstance(stated, list) else [str(stated)]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        asked = " + ".join(modes) or "unnamed"
        raise ExportError(f"{path}: pooling {asked} cannot be served; supported, one at a time: {', '.join(POOLINGS)}")
    return POOLINGS[modes[0]], bool(config.get("include_prompt", True))


def _check_normalize(root: Path, folders: Mapping[str, str]) -> None:
    """Raises ExportError unless the module acts on the one vector of a text."""
    if "Normalize" not in folders:
        return
    path = root / folders["Normalize"] / "config.json"
    config = _read_where_given(path)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, NORMALIZED):
            raise ExportError(f"{path}: {key} {config[key]!r} cannot be served; supported: {NORMALIZED!r}")


def _read_prompts(model_config: Mapping[str, Any]) -> dict[str, str]:
    """Name → the prompt, without empty ones."""
    prompts = model_config.get("prompts")
    named = prompts.items() if isinstance(prompts, dict) else ()
    return {str(name): text for name, text in named if isinstance(text, str) and text.strip()}


def _read_default_prompt(model_config: Mapping[str, Any], prompts: Mapping[str, str]) -> str | None:
    name = model_config.get("default_prompt_name")
    return name if isinstance(name, str) and name in prompts else None


def _read_similarity(root: Path, model_config: Mapping[str, Any]) -> Similarity | None:
    name = model_config.get("similarity_fn_name")
    if name is None:
        return None
    try:
        return Similarity(name)
    except ValueError:
        known = ", ".join(Similarity)
        raise ExportError(
            f"{root / ROOT_SETTINGS}: similarity_fn_name {name!r} is not known to sentence-transformers either; "
            f"known: {known}"
        ) from None


def _note_prompts(prompts: Mapping[str, str], default: str | None, *, include_prompt: bool) -> Iterator[str]:
    """Prompts depend on the use of a text, so the server adds none."""
    if not include_prompt:
        yield "The tokens of a prompt are pooled too, though Pooling states include_prompt false; it names no prompt."
    if prompts:
        shown = ", ".join(repr(prompt) for prompt in list(dict.fromkeys(prompts.values()))[:PROMPTS_SHOWN])
        yield f"Made for texts that begin with a prompt, which callers write themselves: {shown}."
    if default is not None:
        yield f"sentence-transformers puts {prompts[default]!r} before every text (default_prompt_name {default!r})."


def _note_pooling(folders: Mapping[str, str], output: Output) -> Iterator[str]:
    if "Pooling" not in folders and output is Output.TOKENS:
        yield "modules.json names no Pooling: the default vector is the mean over all tokens."


def _note_dimension(model_config: Mapping[str, Any]) -> Iterator[str]:
    if (dimension := model_config.get("truncate_dim")) is not None:
        yield (
            f"sentence-transformers keeps the first {dimension} values of a vector (truncate_dim in {ROOT_SETTINGS}); "
            "the server gives all of them, and callers cut."
        )


def _note_idle_settings(root: Path) -> Iterator[str]:
    """Name a file that sentence-transformers itself does not read without modules.json."""
    found = next((name for name in SETTINGS_FILES if (root / name).is_file()), None)
    if found is not None:
        yield f"{found} was not followed: sentence-transformers does not read it either where modules.json is missing."


def _read_where_given(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
