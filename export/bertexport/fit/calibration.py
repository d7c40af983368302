"""What flows through a checkpoint's linear layers on calibration text: the plan for int8, and what each part costs.

Runs PyTorch's reference with hooks on its modules, on other texts than those that a bundle is verified on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from bertserve.engine.items import Float32s, Item

from bertexport.encoders.architecture import Architecture, Weights
from bertexport.encoders.parts import Part, PartKind, list_parts
from bertexport.errors import ExportError
from bertexport.fit.quantization import Int8Plan, quantize_weight, round_rows, smoothing_scales
from bertexport.proof.reference import Reference

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
    smoothed = [part for part in list_parts(weights.family, architecture) if part.is_smoothed]
    largest: dict[str, Float32s] = {}
    with ExitStack() as hooks:
        for part in smoothed:
            # All modules of a part read the same rows.
            module = find_module(reference, weights, part.module_names[0])
            hooks.enter_context(_watch_input(module, partial(_widen, largest, part.name)))
        for item in items:
            reference.run(item)
            advance()
    return Int8Plan(
        smoothing={part.name: smoothing_scales(largest[part.name], _joined_weight(weights, part)) for part in smoothed}
    )


def rank_parts(
    reference: Reference, weights: Weights, architecture: Architecture, plan: Int8Plan, items: Sequence[Item]
) -> dict[str, float]:
    """Part → what it alone costs in int8, the costliest first: 1 − mean cosine between outputs without and with it.

    The outputs are the last hidden states; for the vocabulary's decoder its logits.
    """
    items = items[:RANKING_ITEMS]
    exact = _run_all(reference, items)
    costs = {}
    for part in list_parts(weights.family, architecture):
        modules = [find_module(reference, weights, name) for name in part.module_names]
        if part.kind is PartKind.DECODER:
            masked = [item for item in items if item.wanted.mask_positions]
            costs[part.name] = _decoder_cost(modules[0], reference, masked)
            continue
        with ExitStack() as rounding:
            for module in modules:
                rounding.enter_context(_round(module, part, plan.smoothing.get(part.name)))
            costs[part.name] = _distance(exact, _run_all(reference, items))
    return dict(sorted(costs.items(), key=lambda cost: -cost[1]))


def find_module(reference: Reference, weights: Weights, name: str) -> Any:
    """The first model's module of that name, as the families' tables write names."""
    for model in reference.models.values():
        for full_name, module in model.named_modules():
            if full_name.removeprefix(weights.family.prefix) == name:
                return module
    raise ExportError(f"transformers' classes have no module {name}, which the graph is made of; this is a bug")


def _joined_weight(weights: Weights, part: Part) -> Float32s:
    return np.concatenate([weights.tensors[module.tensor_names(part.layer)["weight"]] for module in part.modules])


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


def _round(module: Any, part: Part, smoothing: Float32s | None) -> AbstractContextManager[None]:
    """Let a module compute as in int8."""
    if part.kind is PartKind.WORD_TABLE:
        return _other_weight(module, quantize_weight(module.weight.detach().numpy()).restored())
    return _round_linear(module, smoothing, part.lowest)


@contextmanager
def _round_linear(module: Any, smoothing: Float32s | None, lowest: float | None) -> Iterator[None]:
    """lowest: what no value of the input is below, None if unknown."""
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


def _run_all(reference: Reference, items: Sequence[Item]) -> list[Float32s]:
    """The last hidden states of each item."""
    return [reference.run(item).layers[-1] for item in items]


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
