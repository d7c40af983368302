"""What flows through a checkpoint's linear layers on calibration text: the plan for int8, and what each part costs.

Runs PyTorch's reference with hooks on its modules, on other texts than those that a bundle is verified on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from bertserve.bundle import Head
from bertserve.engine.items import Float32s, Item

from bertexport.encoders.architecture import Architecture, Weights
from bertexport.encoders.family import Module
from bertexport.errors import ExportError
from bertexport.fit.quantization import (
    LOWEST_OF_ACTIVATION,
    Int8Plan,
    quantize_weight,
    round_rows,
    smoothing_scales,
)
from bertexport.proof.reference import Reference

# Part of a layer → the modules of the checkpoint that it is made of, which all read the same input.
LAYER_PARTS = {"qkv": ("query", "key", "value"), "projection": ("projection",), "up": ("up",), "down": ("down",)}
# Inputs with features that drown the others: LayerNorm outputs. Smoothing all four is slightly worse than these two.
SMOOTHED_PARTS = ("qkv", "up")
# Enough to rank parts, and little enough to run once for each.
RANKING_ITEMS = 12


def plan_int8(
    reference: Reference,
    weights: Weights,
    architecture: Architecture,
    items: Sequence[Item],
    advance: Callable[[], None],
) -> Int8Plan:
    """All parts in int8, smoothed by what their inputs' features reach on the items; advance after each item."""
    largest: dict[str, Float32s] = {}
    with ExitStack() as hooks:
        for part, modules, layer in _linear_parts(weights, architecture):
            if part.rsplit(".", 1)[-1] in SMOOTHED_PARTS:
                module = find_module(reference, weights, modules[0].name.format(layer=layer))
                hooks.enter_context(_watch_input(module, partial(_widen, largest, part)))
        for item in items:
            reference.run(item)
            advance()
    smoothing = {
        part: smoothing_scales(largest[part], _joined_weight(weights, modules, layer))
        for part, modules, layer in _linear_parts(weights, architecture)
        if part in largest
    }
    return Int8Plan(smoothing=smoothing)


def rank_parts(
    reference: Reference, weights: Weights, architecture: Architecture, plan: Int8Plan, items: Sequence[Item]
) -> dict[str, float]:
    """Part → what it alone costs in int8, the costliest first: 1 − mean cosine between outputs without and with it.

    The outputs are the last hidden states; for the vocabulary's decoder its logits.
    """
    items = items[:RANKING_ITEMS]
    exact = [_last_states(reference, item) for item in items]
    costs = {}
    for part, modules, layer in _linear_parts(weights, architecture):
        lowest = LOWEST_OF_ACTIVATION.get(architecture.activation) if part.endswith(".down") else None
        with ExitStack() as rounding:
            for module in modules:
                found = find_module(reference, weights, module.name.format(layer=layer))
                rounding.enter_context(_round_linear(found, plan.smoothing.get(part), lowest))
            costs[part] = _distance(exact, [_last_states(reference, item) for item in items])
    table = find_module(reference, weights, weights.family.embeddings["word"].name)
    with _other_weight(table, quantize_weight(table.weight.detach().numpy()).restored()):
        costs["word_table"] = _distance(exact, [_last_states(reference, item) for item in items])
    if weights.family.decoder is not None and Head.MASKED_LM in architecture.heads:
        decoder = find_module(reference, weights, weights.family.decoder.name)
        costs["mask_logits"] = _decoder_cost(decoder, reference, [item for item in items if item.wanted.mask_positions])
    return dict(sorted(costs.items(), key=lambda cost: -cost[1]))


def find_module(reference: Reference, weights: Weights, name: str) -> Any:
    """The first model's module of that name, as the families' tables write names."""
    for model in reference.models.values():
        for full_name, module in model.named_modules():
            if full_name.removeprefix(weights.family.prefix) == name:
                return module
    raise ExportError(f"transformers' classes have no module {name}, which the graph is made of; this is a bug")


def _linear_parts(weights: Weights, architecture: Architecture) -> Iterator[tuple[str, list[Module], int]]:
    for layer in range(architecture.layer_count):
        for part, roles in LAYER_PARTS.items():
            yield f"layer_{layer}.{part}", [weights.family.layer[role] for role in roles], layer


def _joined_weight(weights: Weights, modules: list[Module], layer: int) -> Float32s:
    return np.concatenate([weights.tensors[module.tensor_names(layer)["weight"]] for module in modules])


def _widen(largest: dict[str, Float32s], part: str, rows: Float32s) -> None:
    reached = np.abs(rows).max(axis=0)
    largest[part] = np.maximum(largest.get(part, reached), reached)


@contextmanager
def _watch_input(module: Any, see: Callable[[Float32s], None]) -> Iterator[None]:
    """Show a module's input, as rows [tokens, in], each time it runs."""

    def hook(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        see(arguments[0].detach().reshape(-1, arguments[0].shape[-1]).numpy())

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _round_linear(module: Any, smoothing: Float32s | None, lowest: float | None = None) -> Iterator[None]:
    """Let a linear module compute as in int8."""
    scales: Float32s = smoothing if smoothing is not None else np.ones(module.weight.shape[1], np.float32)

    def hook(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        given = arguments[0]
        rows = np.asarray(given.detach().reshape(-1, given.shape[-1]).numpy() / scales, dtype=np.float32)
        return (torch.from_numpy(round_rows(rows, lowest) * scales).reshape(given.shape), *arguments[1:])

    handle = module.register_forward_pre_hook(hook)
    weight: Float32s = module.weight.detach().numpy()
    try:
        with _other_weight(module, quantize_weight(weight * scales).restored() / scales):
            yield
    finally:
        handle.remove()


@contextmanager
def _other_weight(module: Any, weight: Float32s) -> Iterator[None]:
    original = module.weight.data
    module.weight.data = torch.from_numpy(weight)
    try:
        yield
    finally:
        module.weight.data = original


def _last_states(reference: Reference, item: Item) -> Float32s:
    return reference.run(item).layers[-1]


def _decoder_cost(decoder: Any, reference: Reference, items: Sequence[Item]) -> float:
    """On the rows that it decodes. By hand, since its weight may be the word table's too, which is to stay as it is."""
    seen: list[Float32s] = []
    for item in items:
        with _watch_input(decoder, seen.append):
            reference.run(item)
    if not seen:
        return 0.0
    rows = [states[list(item.wanted.mask_positions)] for states, item in zip(seen, items, strict=True)]
    states, weight, bias = np.concatenate(rows), decoder.weight.detach().numpy(), decoder.bias.detach().numpy()
    logits = states @ weight.T + bias
    rounded = round_rows(states) @ quantize_weight(weight).restored().T + bias
    # Without their mean, which says nothing about the order of words.
    return _distance([logits - logits.mean(axis=1, keepdims=True)], [rounded - rounded.mean(axis=1, keepdims=True)])


def _distance(exact: Sequence[Float32s], rounded: Sequence[Float32s]) -> float:
    """1 − the mean cosine between rows."""
    a, b = np.concatenate(exact).astype(np.float64), np.concatenate(rounded).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(1 - ((a * b).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)).mean())
