"""The reference: the checkpoint in PyTorch, fp32 and eager, through `transformers`' own classes and its own loading.

Every figure in a bundle's report is measured against this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from bertserve.bundle import Head
from bertserve.engine.items import Float32s, Item

from bertexport.encoders.architecture import Weights
from bertexport.encoders.family import Family
from bertexport.errors import ExportError
from bertexport.heads.contract import Forward
from bertexport.heads.registry import EXPORTED_HEADS
from bertexport.proof.reference_config import neutralize
from bertexport.proof.threads import count_threads
from bertexport.source.checkpoint import normalize_names, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceOutputs:
    """PyTorch's results, float32, by head; a head that the checkpoint lacks has none. Each is in the form that the
    head's file in `bertserve.heads` compares with."""

    results: Mapping[Head, Any]

    @property
    def layers(self) -> tuple[Float32s, ...]:
        """Hidden states, embedding layer first, [length, hidden] each."""
        layers: tuple[Float32s, ...] = self.results[Head.EMBEDDING]
        return layers


@dataclass(frozen=True, slots=True)
class Expected:
    """An input, and what PyTorch gives for it."""

    item: Item
    outputs: ReferenceOutputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Models that together have all heads, each with those that it answers for."""

    family: Family
    models: Mapping[tuple[Head, ...], Any]
    heads: tuple[Head, ...]

    def run(self, item: Item) -> ReferenceOutputs:
        """One input alone, unpadded."""
        logits: dict[Head, Float32s] = {}
        pooled: Float32s | None = None
        layers: tuple[Float32s, ...] = ()
        for heads, model in self.models.items():
            outputs = self._forward(model, item)
            layers = layers or tuple(states[0].numpy() for states in outputs.hidden_states)
            for head in heads:
                name = "logits" if len(heads) == 1 else EXPORTED_HEADS[head].joint_output
                logits[head] = outputs[name][0].numpy()
            pooler = getattr(model.base_model, "pooler", None)
            if pooler is not None and pooled is None:
                with torch.inference_mode():
                    pooled = pooler(outputs.hidden_states[-1])[0].numpy()
        forward = Forward(item=item, layers=layers, pooled=pooled, logits=logits)
        return ReferenceOutputs(results={head: EXPORTED_HEADS[head].refer(forward) for head in self.heads})

    def _forward(self, model: Any, item: Item) -> Any:
        input_ids = torch.from_numpy(item.input_ids)[None]
        feeds = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        if "token_type" in self.family.embeddings:
            feeds["token_type_ids"] = torch.from_numpy(item.token_type_ids)[None]
        try:
            with torch.inference_mode():
                return model(**feeds, output_hidden_states=True, return_dict=True)
        except Exception as error:  # PyTorch raises its own and Python's classes
            raise ExportError(
                f"PyTorch cannot run {type(model).__name__} on an input of {item.length} tokens: "
                f"{' '.join(str(error).split())}"
            ) from error


def expect(reference: Reference, item: Item, advance: Callable[[], None]) -> Expected:
    """Run an input, and advance once that is done."""
    outputs = reference.run(item)
    advance()
    return Expected(item, outputs)


def load_reference(directory: Path, weights: Weights, heads: tuple[Head, ...]) -> Reference:
    """Load the checkpoint as `transformers` does, and see that it holds the very tensors that the graph is made of.

    Raises ExportError where it refuses the checkpoint, or loads other values.
    """
    torch.set_num_threads(min(torch.get_num_threads(), count_threads()))
    models: dict[tuple[Head, ...], Any] = {}
    parameters: dict[str, torch.Tensor] = {}
    held: set[str] = set()
    for answered, name in choose_classes(weights.family, heads):
        models[answered] = model = _load(directory, weights, name)
        held |= set(_normalized_state(model, weights))
        # What several classes have, and that is the whole encoder, lies in memory once.
        for tensor, parameter in normalize_names(dict(model.named_parameters()), weights.family).items():
            parameter.data = parameters.setdefault(tensor, parameter.data)
    if lost := sorted(set(weights.tensors) - held):
        raise ExportError(f"transformers' classes hold no tensor {lost[0]}, which the graph reads; this is a bug")
    return Reference(family=weights.family, models=models, heads=heads)


def choose_classes(family: Family, heads: tuple[Head, ...]) -> list[tuple[tuple[Head, ...], str]]:
    """The fewest classes that together have the heads."""
    left = set(heads)
    chosen: list[tuple[tuple[Head, ...], str]] = []
    for answered, name in family.classes.items():
        if answered and left.issuperset(answered):
            chosen.append((answered, name))
            left -= set(answered)
    has_pooler = any(family.reads_pooler(head) for answered, _ in chosen for head in answered)
    if not chosen or (Head.POOLER in heads and not has_pooler):
        chosen.append(((), family.classes[()]))
    return chosen


def _load(directory: Path, weights: Weights, class_name: str) -> Any:
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model_class = getattr(transformers, class_name)
        config = model_class.config_class.from_dict(neutralize(read_json(directory / "config.json")))
        model = model_class.from_pretrained(
            directory, config=config, attn_implementation="eager", dtype=torch.float32, local_files_only=True
        )
    except Exception as error:  # whatever the files hold comes out as many classes
        raise ExportError(
            f"transformers cannot load {directory} as {class_name}: {' '.join(str(error).split())}"
        ) from error
    _stand_in(model, weights)
    for name, tensor in _normalized_state(model, weights).items():
        if name in weights.tensors and not np.array_equal(tensor, weights.tensors[name]):
            raise ExportError(
                f"transformers' {class_name} loads other values for {name} than the checkpoint's files hold"
            )
    return model.eval()


def _stand_in(model: Any, weights: Weights) -> None:
    """Tensors that the files leave out. Where `tie_word_embeddings` is off, `transformers` 5 leaves the decoder's bias
    at zero for want of a tensor of its name, whereas the versions that wrote such files always tied it."""
    for name, parameter in model.state_dict().items():
        modern = next(iter(normalize_names({name: np.empty(0, np.float32)}, weights.family)))
        if modern in weights.stood_in:
            parameter.copy_(torch.from_numpy(weights.tensors[modern]))


def _normalized_state(model: Any, weights: Weights) -> dict[str, Float32s]:
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    return normalize_names(state, weights.family)
