"""The files that sentence-transformers keeps beside a checkpoint: where it lies, and how vectors are pooled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertserve.bundle import Pooling

from bertexport.checkpoint import read_json
from bertexport.errors import ExportError
from bertexport.weight_files import check_readable

# What a bundle can do, in the order in which it does it.
MODULES = ("Transformer", "Pooling", "Normalize")
POOLINGS = {"cls": Pooling.CLS, "mean": Pooling.MEAN, "max": Pooling.MAX}
POOLING_FLAGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceFiles:
    """directory: holds config.json and the weights. max_tokens: the longest input it was made for, where stated.

    lowercase: whether texts are lower-cased before they are tokenized, whatever the tokenizer does. prompts: what texts
    are meant to begin with, depending on their use.
    """

    directory: Path
    pooling: Pooling = Pooling.MEAN
    normalize: bool = False
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: tuple[str, ...] = ()


def read_sentence_files(root: Path) -> SentenceFiles:
    """Defaults where `root` is an ordinary checkpoint. Raises ExportError for modules that no bundle does."""
    if not (root / "modules.json").is_file():
        return SentenceFiles(directory=root)
    modules = _read_modules(root / "modules.json")
    stray = next((kind for (kind, _), known in zip(modules, (*MODULES, ""), strict=False) if kind != known), None)
    if stray is not None:
        raise ExportError(
            f"{root / 'modules.json'}: module {stray} cannot be served there; supported: {', '.join(MODULES)}, in this "
            "order. To serve the encoder alone, export the folder of its weights without modules.json"
        )
    folders = dict(modules)
    directory = root / folders.get("Transformer", "")
    settings = _read_where_given(directory / "sentence_bert_config.json")
    limit = settings.get("max_seq_length")
    return SentenceFiles(
        directory=directory,
        pooling=_read_pooling(root / folders["Pooling"] / "config.json") if "Pooling" in folders else Pooling.MEAN,
        normalize="Normalize" in folders,
        max_tokens=limit if isinstance(limit, int) and limit > 0 else None,
        lowercase=settings.get("do_lower_case") is True,
        prompts=_read_prompts(root / "config_sentence_transformers.json"),
    )


def _read_modules(path: Path) -> list[tuple[str, str]]:
    """Kind of each module, and its folder."""
    check_readable(path)
    try:
        steps: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        modules = [(str(step["type"]).rsplit(".", 1)[-1], str(step["path"])) for step in steps]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExportError(f"{path}: not a list of modules with type and path") from error
    if any(Path(folder).is_absolute() or ".." in Path(folder).parts for _, folder in modules):
        raise ExportError(f"{path}: a module lies outside of the checkpoint's folder")
    return modules


def _read_pooling(path: Path) -> Pooling:
    config = read_json(path)
    # Recent versions name one mode; earlier ones set a flag for each, and several flags mean concatenation.
    flags = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    chosen = [str(config["pooling_mode"])] if "pooling_mode" in config else [POOLING_FLAGS.get(f, f) for f in flags]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        asked = " + ".join(chosen) or "unnamed"
        raise ExportError(f"{path}: pooling {asked} cannot be served; supported, one at a time: {', '.join(POOLINGS)}")
    return POOLINGS[chosen[0]]


def _read_prompts(path: Path) -> tuple[str, ...]:
    prompts = _read_where_given(path).get("prompts")
    texts = prompts.values() if isinstance(prompts, dict) else ()
    return tuple(dict.fromkeys(text for text in texts if isinstance(text, str) and text.strip()))


def _read_where_given(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
