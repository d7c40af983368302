"""A checkpoint, read: its settings and its tensors under the names of today, without the base model's prefix.

Owns the names that older checkpoints use. Does not know which tensors a model needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from bertserve.engine.items import Float32s

from bertexport.encoders.bert import BERT
from bertexport.encoders.family import Family
from bertexport.encoders.registry import find_family, find_family_of_class
from bertexport.errors import ExportError
from bertexport.source.weight_files import PickleFile, SafetensorsFile, StoredTensor, refuse_pointer

# In the order of preference: a pickle is read only where there is nothing else.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
Value = TypeVar("Value")
# What a checkpoint is called whose config.json names no class.
UNNAMED = "unnamed"
OLD_NAMES = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}


class Tensors(Mapping[str, Float32s]):
    """float32 by name. Read when asked for and not kept, so that a model need not fit into memory several times."""

    def __init__(self, stored: Mapping[str, StoredTensor]) -> None:
        self._stored = dict(stored)

    def __getitem__(self, name: str) -> Float32s:
        return self._stored[name].read()

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def rename(self, names: Mapping[str, str]) -> Tensors:
        """New name → the name that it has here; what is not named is left out."""
        return Tensors({new: self._stored[name] for new, name in names.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """tensors: by their normalised names. weights_sha256: over the weight files, in order of their names.

    architecture: the class that the checkpoint calls itself; heads are decided by tensors.
    """

    directory: Path
    family: Family
    config: Mapping[str, Any]
    tensors: Tensors
    architecture: str
    weights_sha256: str


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read config.json and all weights.

    Raises ExportError: unreadable, an adapter, not a supported family, names that clash.
    """
    if (directory / "adapter_config.json").is_file():
        raise ExportError(
            f"{directory} holds an adapter (adapter_config.json), no whole model; merge it into its base model "
            "(merge_and_unload), save that with its tokenizer in another directory, and export that"
        )
    config = read_json(directory / "config.json")
    architecture = _read_architecture_name(config)
    family = read_family(config)
    files = _find_weight_files(directory)
    return Checkpoint(
        directory=directory,
        family=family,
        config=config,
        tensors=Tensors(normalize_names(_find_tensors(files), family)),
        architecture=architecture,
        weights_sha256=_hash_files(files),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ExportError."""
    try:
        text = path.read_text(encoding="utf-8")
        refuse_pointer(path, text.encode())
        content = json.loads(text)
    except FileNotFoundError as error:
        raise ExportError(f"{path} is missing; MODEL is a directory in Hugging Face form, or a hub id") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ExportError(f"{path} cannot be read as JSON: {reason}") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path} holds no JSON object")
    return content


def read_family(config: Mapping[str, Any]) -> Family:
    """The family that config.json states; without `model_type`, as in the oldest files, the one of its class, or BERT.

    Raises ExportError.
    """
    if config.get("model_type") is not None:
        return find_family(str(config["model_type"]))
    name = _read_architecture_name(config)
    return BERT if name == UNNAMED else find_family_of_class(name)


def normalize_names(tensors: Mapping[str, Value], family: Family) -> dict[str, Value]:
    """Whatever goes by tensors' names, by the names of today. Raises ExportError where two mean the same tensor."""
    normalized: dict[str, Value] = {}
    for name, tensor in tensors.items():
        modern = name.removeprefix(family.prefix)
        for old, new in OLD_NAMES.items():
            modern = modern.removesuffix(old) + new if modern.endswith(old) else modern
        if modern in normalized:
            raise ExportError(f"the checkpoint holds the tensor {modern} under two names, one of them {name}")
        normalized[modern] = tensor
    return normalized


def _read_architecture_name(config: Mapping[str, Any]) -> str:
    names = config.get("architectures") or [UNNAMED]
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise ExportError(f"config.json: architectures is {names!r}, a list of class names is needed")
    return names[0]


def _find_weight_files(directory: Path) -> list[Path]:
    """The weight files in order of their names, all shards of an index included."""
    found = next((directory / name for name in WEIGHT_FILES if (directory / name).is_file()), None)
    if found is None:
        raise ExportError(f"{directory} holds no weights; looked for {', '.join(WEIGHT_FILES)}")
    if found.suffix != ".json":
        return [found]
    weight_map = read_json(found).get("weight_map")
    values = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not values or not all(isinstance(name, str) and len(PurePosixPath(name).parts) == 1 for name in values):
        raise ExportError(f"{found}: its weight_map names no weight files beside it")
    missing = sorted(name for name in set(values) if not (directory / name).is_file())
    if missing:
        raise ExportError(f"{directory}: weight files missing: {', '.join(missing)}")
    return [directory / name for name in sorted(set(values))]


def _find_tensors(files: list[Path]) -> dict[str, StoredTensor]:
    stored: dict[str, StoredTensor] = {}
    for path in files:
        file = SafetensorsFile(path) if path.suffix == ".safetensors" else PickleFile(path)
        for name in file.names():
            if name in stored:
                raise ExportError(f"{path}: the tensor {name} is in another weight file too")
            stored[name] = StoredTensor(file=file, name=name)
    return stored


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
