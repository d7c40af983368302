"""A head is one thing to the server and the export: the graph has what its file states, in that order."""

from __future__ import annotations

import onnx
import pytest
from bertexport.heads.registry import EXPORTED_HEADS
from bertserve.bundle import Head, read_bundle
from bertserve.heads.contract import Port, sizes_of
from bertserve.heads.registry import HEADS
from make_bundles import BUNDLES

pytestmark = pytest.mark.export

ENCODER_INPUTS = ["input_ids", "token_type_ids", "position_ids", "group_starts", "group_shapes"]


def test_the_export_knows_every_head_by_the_servers_name() -> None:
    """Each head's file of the export belongs to the server's file of that name."""
    assert {head: exported.kind for head, exported in EXPORTED_HEADS.items()} == HEADS


@pytest.mark.parametrize("name", ["pretraining", "classifier", "tagger"])
def test_a_graph_has_the_inputs_and_outputs_that_its_heads_state(name: str) -> None:
    """By name, type and shape, after the encoder's own."""
    bundle = read_bundle(BUNDLES / name)
    graph = onnx.load(bundle.graph_path, load_external_data=False).graph
    sizes = sizes_of(bundle.model)
    kinds = [HEADS[head] for head in bundle.model.heads if head is not Head.EMBEDDING]
    inputs = [describe(port, sizes) for kind in kinds for port in kind.inputs]
    outputs = [describe(port, sizes) for kind in kinds for port in kind.outputs]
    layers = [f"hidden_{layer}" for layer in range(bundle.model.layer_count + 1)]
    assert [value.name for value in graph.input[: len(ENCODER_INPUTS)]] == ENCODER_INPUTS
    assert list(map(read, graph.input[len(ENCODER_INPUTS) :])) == inputs
    assert [value.name for value in graph.output[: len(layers)]] == layers
    assert list(map(read, graph.output[len(layers) :])) == outputs


def describe(port: Port, sizes: dict[str, int]) -> tuple[str, bool, list[int | str]]:
    return port.name, port.ints, port.sized(sizes)


def read(value: onnx.ValueInfoProto) -> tuple[str, bool, list[int | str]]:
    tensor = value.type.tensor_type
    shape = [size.dim_param or size.dim_value for size in tensor.shape.dim]
    return value.name, tensor.elem_type == onnx.TensorProto.INT64, shape
