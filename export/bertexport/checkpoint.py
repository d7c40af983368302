"""A checkpoint, read: its settings and its tensors under the names of today, without the base model's prefix.

Owns the forms in which weights lie on disk and the names that older checkpoints use. Nothing is unpickled but tensors.
Does not know which tensors a model needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from bertserve.engine.items import Float32s

from bertexport.errors import ExportError
from bertexport.families import Family, find_family

# In the order of preference: a pickle is read only where there is nothing else.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
OLD_NAMES = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """tensors: float32, by their normalised names. weights_sha256: over the weight files, in order of their names.

    architecture: the class that the checkpoint calls itself; heads are decided by tensors.
    """

    directory: Path
    family: Family
    config: Mapping[str, Any]
    tensors: Mapping[str, Float32s]
    architecture: str
    weights_sha256: str


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read config.json and all weights. Raises ExportError: unreadable, not a supported family, names that clash."""
    config = read_json(directory / "config.json")
    family = find_family(str(config.get("model_type", "bert")))
    architecture = _read_architecture_name(config)
    files = _find_weight_files(directory)
    return Checkpoint(
        directory=directory,
        family=family,
        config=config,
        tensors=normalize_names(_read_all(files), family),
        architecture=architecture,
        weights_sha256=_hash_files(files),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ExportError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExportError(f"{path} is missing; MODEL is a directory in Hugging Face form, or a hub id") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ExportError(f"{path} cannot be read as JSON: {reason}") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path} holds no JSON object")
    return content


def normalize_names(tensors: Mapping[str, Float32s], family: Family) -> dict[str, Float32s]:
    """Tensors by the names of today. Raises ExportError where two names mean the same tensor."""
    normalized: dict[str, Float32s] = {}
    for name, tensor in tensors.items():
        modern = name.removeprefix(family.prefix)
        for old, new in OLD_NAMES.items():
            modern = modern.removesuffix(old) + new if modern.endswith(old) else modern
        if modern in normalized:
            raise ExportError(f"the checkpoint holds the tensor {modern} under two names, one of them {name}")
        normalized[modern] = tensor
    return normalized


def _read_architecture_name(config: Mapping[str, Any]) -> str:
    names = config.get("architectures") or ["unnamed"]
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


def _read_all(files: list[Path]) -> dict[str, Float32s]:
    tensors: dict[str, Float32s] = {}
    for file in files:
        for name, tensor in _read_file(file):
            if name in tensors:
                raise ExportError(f"{file}: the tensor {name} is in another weight file too")
            tensors[name] = tensor
    return tensors


def _read_file(file: Path) -> Iterator[tuple[str, Float32s]]:
    # Through torch rather than numpy, which has no bfloat16.
    import torch

    tensors = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    for name, tensor in tensors.items():
        # Whole numbers are buffers such as position_ids, which old versions saved and every model computes anew.
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            yield name, np.asarray(tensor.detach().to(torch.float32).numpy(), order="C")


def _read_safetensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ExportError(f"{file} is not a whole safetensors file ({reason}); download it again") from error


def _read_pickle(file: Path) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle's, zip's and its own classes
        raise ExportError(
            f"{file} cannot be read as plain tensors, and nothing else is ever unpickled; "
            "save the checkpoint as safetensors from a program that you trust"
        ) from error
    if not isinstance(content, dict):
        raise ExportError(f"{file} holds no state dict")
    return content


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
