"""The packed graph of an encoder: written from its tensors, in the layout that `bertserve.engine.packing` describes.

Linear layers and LayerNorms run on [tokens, hidden]. Attention runs once per group of texts of equal length, as
[count, length, hidden], without mask or padding: a Loop over the groups, all weights outside of it. The masked-LM
decoder sees the mask rows alone. Every row's values depend on its own text only, bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from bertserve.bundle import Head
from bertserve.engine.ort.run_memory import LONG_TEXT_TOKENS

from bertexport.encoders.architecture import Architecture, Weights
from bertexport.encoders.parts import DECODER, layer_parts
from bertexport.graph.block import write_block
from bertexport.graph.embeddings import summed_tables, write_embeddings
from bertexport.graph.groups import write_groups
from bertexport.graph.heads import HeadWriter
from bertexport.graph.layer import Layer
from bertexport.graph.layer_outputs import LayerOutputs
from bertexport.graph.modules import ModuleWriter
from bertexport.graph.nodes import NodeWriter, tensor_info, write_graph
from bertexport.graph.precision.contract import Precision
from bertexport.heads.registry import EXPORTED_HEADS


def build_graph(weights: Weights, architecture: Architecture, directory: Path, precision: Precision) -> None:
    """Write model.onnx (and model.onnx.data) into `directory`."""
    graph = _PackedGraph(weights, architecture, directory, precision)
    hidden = graph.write_encoder()
    heads = HeadWriter(modules=graph.modules, last_rows=hidden, decode=graph.decode)
    for head in architecture.heads:
        EXPORTED_HEADS[head].write(heads)
    write_graph(graph.modules.nodes, [*graph.inputs, *heads.inputs], [*graph.outputs, *heads.outputs])


class _PackedGraph:
    def __init__(self, weights: Weights, architecture: Architecture, directory: Path, precision: Precision) -> None:
        nodes = NodeWriter(directory)
        self.modules = ModuleWriter(nodes=nodes, weights=weights, architecture=architecture)
        self._part_writer = precision.open(nodes)
        self._family = weights.family
        self._architecture = architecture
        self.inputs = [
            *(tensor_info(indices, ["tokens"], ints=True) for indices in summed_tables(weights.family).values()),
            tensor_info("group_starts", ["bounds"], ints=True),
            tensor_info("group_shapes", ["groups", 3], ints=True),
        ]
        self.outputs: list[onnx.ValueInfoProto] = []

    def write_encoder(self) -> str:
        """The embeddings and all layers; the rows of the last one."""
        nodes, architecture = self.modules.nodes, self._architecture
        long_texts = architecture.longest_text > LONG_TEXT_TOKENS
        layers = LayerOutputs(nodes, architecture.hidden_size, architecture.layer_count, on_demand=long_texts)
        groups = write_groups(nodes, architecture.hidden_size, long_texts=long_texts)
        layers.begin(self.inputs)
        write_embeddings(self.modules, self._part_writer, layers.rows(0))
        layers.offer(0, self.outputs)
        for number in range(architecture.layer_count):
            layer = Layer(
                number=number,
                modules=self.modules,
                part_writer=self._part_writer,
                parts=layer_parts(self._family, architecture, number),
                groups=groups,
                rows=layers.rows(number),
                output=layers.rows(number + 1),
                go_on=layers.go_on(number),
            )
            write_block(layer)
            layers.offer(number + 1, self.outputs)
        return layers.rows(architecture.layer_count)

    def decode(self, states: str) -> str:
        """Logits over the vocabulary of states [masks, in]."""
        decoder = self.modules.read_linear(self._family.last_module(Head.MASKED_LM), DECODER)
        words = self.modules.tensors(self._family.embeddings["word"])["weight"]
        return self._part_writer.decode(states, decoder, words)
