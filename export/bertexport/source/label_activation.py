"""The activation that a cross-encoder states for its scores, as sentence-transformers reads it (CrossEncoder, 6.2).

Version 6 writes `activation_fn` to config_sentence_transformers.json, versions 4 and 5 to config.json below
`sentence_transformers`, and older ones to config.json as `sbert_ce_default_activation_function`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertserve.bundle import LabelActivation

from bertexport.errors import ExportError
from bertexport.source.checkpoint import read_json

SENTENCE_CONFIG = "config_sentence_transformers.json"
# Without it, the library makes a new model of the folder and does not read SENTENCE_CONFIG.
MODULES = "modules.json"
OLD_KEY = "sbert_ce_default_activation_function"
# The library makes an activation of PyTorch's. Any other it takes for untrusted code, and scores by its own default.
TRUSTED = "torch."


def read_label_activation(directory: Path, config: Mapping[str, Any]) -> LabelActivation | None:
    """The stated activation, None without one. Raises ExportError for one of PyTorch's that is not supported."""
    for key, stated in _statements(directory, config):
        if stated is None:
            continue
        if not isinstance(stated, str):
            raise ExportError(f"{key} is {stated!r}; a name is needed, such as 'torch.nn.modules.activation.Sigmoid'")
        if not stated.startswith(TRUSTED):
            continue
        name = stated.rpartition(".")[2].lower()
        if name not in LabelActivation.__members__.values():
            supported = ", ".join(f"torch.nn.{activation.value.capitalize()}" for activation in LabelActivation)
            raise ExportError(f"{key} is {stated!r}; supported: {supported}")
        return LabelActivation(name)
    return None


def find_untrusted_activation(directory: Path, config: Mapping[str, Any]) -> str | None:
    """A stated activation that is code of the checkpoint's own, which neither the library nor the server runs."""
    for _, stated in _statements(directory, config):
        if isinstance(stated, str) and not stated.startswith(TRUSTED):
            return stated
    return None


def _statements(directory: Path, config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Where an activation may be stated, by the name to show, and what stands there."""
    path = directory / SENTENCE_CONFIG
    newest = read_json(path) if path.is_file() and (directory / MODULES).is_file() else {}
    nested = config.get("sentence_transformers")
    statements = [(f"{SENTENCE_CONFIG}: activation_fn", newest.get("activation_fn"))]
    if isinstance(nested, dict) and "activation_fn" in nested:
        return [*statements, ("config.json: sentence_transformers.activation_fn", nested["activation_fn"])]
    return [*statements, (f"config.json: {OLD_KEY}", config.get(OLD_KEY))]
