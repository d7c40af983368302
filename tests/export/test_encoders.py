"""How encoders are described: every choice has its writer, every module its part, and biases may be missing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from bertexport.encoders.architecture import Architecture, Weights, read_architecture, select_weights
from bertexport.encoders.family import Family, Kind, Module
from bertexport.encoders.parts import FEED_FORWARD_PARTS, list_parts
from bertexport.encoders.registry import FAMILIES
from bertexport.encoders.spec import WEIGHT_LAYERS
from bertexport.fit.quantization import Int8Plan
from bertexport.graph.attention_loop import BODIES
from bertexport.graph.block import BLOCKS
from bertexport.graph.embeddings import POSITION_TABLES
from bertexport.graph.feed_forward import FEED_FORWARDS
from bertexport.graph.precision.contract import Precision
from bertexport.graph.precision.fp32 import Fp32
from bertexport.graph.precision.int8 import Int8
from bertexport.graph.precision.names import PRECISION_NAMES
from bertexport.graph.precision.registry import PRECISIONS
from bertexport.graph.writer import build_graph
from bertexport.source.checkpoint import read_checkpoint
from bertserve.axes import FeedForward, Keys, LayerWeights, NormOrder, Positions, Span
from bertserve.bundle import Head
from checkpoints import TINY, write_checkpoint

pytestmark = pytest.mark.export

LAYERS = 2
# In steps, so that rows that are not smoothed give other values.
SCALES = np.linspace(0.5, 1.5, TINY["hidden_size"], dtype=np.float32)
SMOOTHING = Int8Plan(smoothing={f"layer_{layer}.{part}": SCALES for layer in range(LAYERS) for part in ("qkv", "up")})


@pytest.fixture
def read(tmp_path: Path) -> tuple[Weights, Architecture]:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "checkpoint", ["masked_lm"], num_hidden_layers=LAYERS))
    architecture = read_architecture(checkpoint)
    return select_weights(checkpoint, architecture), architecture


@pytest.mark.parametrize(
    ("choices", "writers"),
    [
        (Positions, POSITION_TABLES),
        (NormOrder, BLOCKS),
        (FeedForward, FEED_FORWARDS),
        (FeedForward, FEED_FORWARD_PARTS),
        (LayerWeights, WEIGHT_LAYERS),
    ],
)
def test_every_choice_has_a_writer(choices: type[StrEnum], writers: Collection[StrEnum]) -> None:
    """A family cannot state what no graph can be written for."""
    assert set(writers) == set(choices)


def test_every_attention_has_a_writer() -> None:
    assert set(BODIES) == set(product(Span, Keys))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_every_linear_layer_is_of_one_part(family: Family, read: tuple[Weights, Architecture]) -> None:
    """Nothing is left out of calibration, and nothing is in two precisions."""
    architecture = replace(read[1], heads=(Head.EMBEDDING, Head.MASKED_LM))
    in_parts = [name for part in list_parts(family, architecture) for name in part.module_names]
    linear = [module.name for module in family.layer.values() if module.kind is Kind.LINEAR]
    expected = [name.format(layer=layer) for layer in range(LAYERS) for name in linear]
    ends = [family.embeddings["word"].name, family.last_module(Head.MASKED_LM).name]
    assert sorted(in_parts) == sorted([*expected, *ends])


@pytest.mark.parametrize("roles", [("query", "key", "value"), ("key",), ("projection",), ("up", "down")], ids="+".join)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_linear_layer_may_have_no_bias(
    precision: str, roles: tuple[str, ...], read: tuple[Weights, Architecture], tmp_path: Path
) -> None:
    """It computes what it would with a bias of zeros."""
    weights, architecture = read
    modules = [weights.family.layer[role] for role in roles]
    names = {module.tensor_names(layer)["bias"] for module in modules for layer in range(LAYERS)}
    tensors = {name: tensor * np.float32(name not in names) for name, tensor in weights.tensors.items()}
    zeroed = replace(weights, tensors=tensors)
    layer = {role: leave_out_bias(module) if role in roles else module for role, module in weights.family.layer.items()}
    without = replace(
        weights,
        family=replace(weights.family, layer=layer),
        tensors={name: tensor for name, tensor in tensors.items() if name not in names},
    )
    expected, actual = (run(each, architecture, PRECISIONS[precision], tmp_path) for each in (zeroed, without))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", [Fp32(), Int8(plan=SMOOTHING)], ids=["fp32", "int8"])
def test_layers_may_share_their_weights(
    precision: Precision, read: tuple[Weights, Architecture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They compute what layers with equal weights of their own do, and the linear layers' constants are there once."""
    weights, architecture = read
    copied = {name: weights.tensors[name.replace("layer.1.", "layer.0.")] for name in weights.tensors}
    expected = run(replace(weights, tensors=copied), architecture, precision, tmp_path)
    own = read_constants(tmp_path)
    monkeypatch.setitem(WEIGHT_LAYERS, LayerWeights.OWN, lambda _: 0)
    needed = weights.family.modules(architecture.heads, LAYERS, projects=False)
    names = {name for module, layer in needed for name in module.tensor_names(layer).values()}
    first = {name: weights.tensors[name] for name in names}
    np.testing.assert_array_equal(run(replace(weights, tensors=first), architecture, precision, tmp_path), expected)
    shared = read_constants(tmp_path)
    assert own - shared == {name for name in own if name.startswith("layer_1.") and ".middle." not in name}


def read_constants(directory: Path) -> set[str]:
    return {tensor.name for tensor in onnx.load(directory / "model.onnx").graph.initializer}


def leave_out_bias(module: Module) -> Module:
    return replace(module, shapes={"weight": module.shapes["weight"]})


def run(weights: Weights, architecture: Architecture, precision: Precision, directory: Path) -> np.ndarray:
    """The last layer's rows of one text."""
    build_graph(weights, architecture, directory, precision)
    session = ort.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    ids = np.arange(3, 12)
    fed = {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.arange(len(ids)),
        "group_starts": np.array([0, len(ids)]),
        "group_shapes": np.array([[1, len(ids), -1]]),
        "mask_rows": np.array([1]),
        "target_masks": np.array([0]),
        "target_ids": np.array([5]),
        "top_k": np.array([3]),
    }
    (rows,) = session.run([f"hidden_{LAYERS}"], fed)
    return rows


def test_every_precision_is_registered_by_its_name() -> None:
    """The command line shows the names without loading the precisions."""
    assert [*PRECISIONS] == [*PRECISION_NAMES]
    assert [precision.name for precision in PRECISIONS.values()] == [*PRECISION_NAMES]
