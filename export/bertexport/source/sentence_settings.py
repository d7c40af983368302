"""The settings of sentence-transformers' module Transformer: limits, casing, and what is told to `transformers`.

They lie beside the weights, in a file whose name has changed over the years. Written after version 6.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bertexport.errors import ExportError
from bertexport.source.checkpoint import read_json

# In the order in which sentence-transformers looks for them. The first that states anything counts.
SETTINGS_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
SENTENCE_TRANSFORMER = "SentenceTransformer"
CROSS_ENCODER = "CrossEncoder"
LIMIT = "model_max_length"

# Earlier name → today's name of the arguments that a file passes on.
RENAMED = {"model_args": "model_kwargs", "tokenizer_args": "processor_kwargs", "config_args": "config_kwargs"}
# Arguments of `from_pretrained` that sentence-transformers sets itself, whatever a file states.
OVERRIDDEN = {"subfolder", "token", "cache_dir", "revision", "local_files_only", "trust_remote_code"}
# Arguments that say how a model is loaded or run, and not what it computes.
LOADING = {"attn_implementation", "device_map", "low_cpu_mem_usage", "use_cache", "use_safetensors"}
LOADING |= {"add_pooling_layer", "output_attentions", "output_hidden_states", "return_dict"}
# Arguments that make the library compute with fewer bits than float32.
NUMBER_TYPES = {"dtype", "torch_dtype"}
# Settings that change no vector of a text alone.
IDLE = {"unpad_inputs", "backend", "cache_dir"}
# Settings that count if a caller says what a text is for.
BY_USE = ("query_length", "document_length", "query_expansion")


class Output(StrEnum):
    """The output of the module, by its name in `transformers`."""

    TOKENS = "last_hidden_state"
    POOLED = "pooler_output"
    LOGITS = "logits"


# Kind of model → what its module may give: the task, and under what name the output goes on.
OUTPUTS = {
    SENTENCE_TRANSFORMER: {
        Output.TOKENS: ("feature-extraction", "token_embeddings"),
        Output.POOLED: ("feature-extraction", "sentence_embedding"),
    },
    CROSS_ENCODER: {Output.LOGITS: ("sequence-classification", "scores")},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """tokenizer_settings: arguments of `AutoTokenizer.from_pretrained`, the stated limit among them."""

    output: Output
    lowercase: bool
    tokenizer_settings: Mapping[str, Any]
    notes: tuple[str, ...]


def read_model_settings(directory: Path, model_type: str) -> ModelSettings:
    """Raises ExportError, which names file and key, if a setting changes vectors in a way that no bundle does."""
    path, settings = _find_settings(directory)
    notes = [*_check_arguments(path, settings, "model_kwargs"), *_check_arguments(path, settings, "config_kwargs")]
    tokenizer_settings = _read_tokenizer_settings(path, settings)
    output = _read_output(path, settings, model_type)
    lowercase = bool(settings.pop("do_lower_case", False))
    notes += _note_uses(path, settings)
    if unknown := sorted(set(settings) - IDLE):
        raise ExportError(f"{path}: {unknown[0]} is not a known setting, so vectors might differ; take it out")
    return ModelSettings(output=output, lowercase=lowercase, tokenizer_settings=tokenizer_settings, notes=tuple(notes))


def _find_settings(directory: Path) -> tuple[Path, dict[str, Any]]:
    for name in SETTINGS_FILES:
        if (directory / name).is_file() and (settings := read_json(directory / name)):
            return directory / name, {RENAMED.get(key, key): value for key, value in settings.items()}
    return directory / SETTINGS_FILES[0], {}


def _read_tokenizer_settings(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments for the tokenizer. A limit among them wins over max_seq_length."""
    arguments = _take_arguments(path, settings, "processor_kwargs")
    chosen = {key: value for key, value in arguments.items() if key not in OVERRIDDEN}
    for key in ("processing_kwargs", "tokenizer_name_or_path"):
        if settings.pop(key, None):
            raise ExportError(f"{path}: {key} changes how texts are read, which cannot be done; take it out")
    limit = settings.pop("max_seq_length", None)
    if LIMIT in chosen:
        _check_limit(path, LIMIT, chosen[LIMIT])
    elif limit is not None:
        _check_limit(path, "max_seq_length", limit)
        chosen[LIMIT] = limit
    return chosen


def _take_arguments(path: Path, settings: dict[str, Any], key: str) -> dict[str, Any]:
    arguments = settings.pop(key, None) or {}
    if not isinstance(arguments, dict):
        raise ExportError(f"{path}: {key} is {arguments!r}, an object of arguments is needed")
    return arguments


def _check_arguments(path: Path, settings: dict[str, Any], key: str) -> Iterator[str]:
    """A note on a type of numbers. Raises ExportError unless all others leave vectors as they are."""
    arguments = _take_arguments(path, settings, key)
    earlier = next(name for name, today in RENAMED.items() if today == key)
    if changing := sorted(set(arguments) - OVERRIDDEN - LOADING - NUMBER_TYPES):
        raise ExportError(
            f"{path}: {key} (or {earlier}) sets {changing[0]} to {arguments[changing[0]]!r}, which cannot be done; "
            "save the model with this setting in its config.json, and export that"
        )
    for name in sorted(NUMBER_TYPES & set(arguments)):
        yield f"{path.name}: {name} {arguments[name]!r} of {key} is not followed; outputs are those of float32."


def _read_output(path: Path, settings: dict[str, Any], model_type: str) -> Output:
    """The output that goes on to the next module. Raises ExportError unless it is one of OUTPUTS."""
    known = OUTPUTS[model_type]
    default = next(iter(known))
    task = settings.pop("transformer_task", known[default][0])
    modalities = settings.pop("modality_config", None)
    forwarded = settings.pop("module_output_name", None)
    if modalities is None:
        modalities, forwarded = {"text": {"method": "forward", "method_output_name": default.value}}, known[default][1]
    text = modalities.get("text") if isinstance(modalities, dict) else None
    if not isinstance(text, dict) or set(modalities) != {"text"} or text.get("method") != "forward":
        raise ExportError(f"{path}: modality_config {modalities!r} cannot be served; supported: text, by forward")
    name = text.get("method_output_name")
    output = next((output for output in known if output.value == name), None)
    if output is None or (task, forwarded) != known[output]:
        supported = "; ".join(f"{task}: {output.value} as {forwarded}" for output, (task, forwarded) in known.items())
        raise ExportError(
            f"{path}: transformer_task {task}, with method_output_name {name!r} as module_output_name {forwarded!r}, "
            f"cannot be served; supported: {supported}"
        )
    return output


def _check_limit(path: Path, key: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ExportError(f"{path}: {key} is {value!r}, a positive whole number is needed")


def _note_uses(path: Path, settings: dict[str, Any]) -> Iterator[str]:
    """Settings that sentence-transformers follows in encode_query or encode_document alone."""
    for key in BY_USE:
        if (value := settings.pop(key, None)) is not None:
            yield f"{path.name}: {key} {value!r} is not followed; sentence-transformers does if a use is named."
