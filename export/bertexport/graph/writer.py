"""The packed graph of a BERT: written from its tensors, in the layout that `bertserve.engine.packing` describes.

Linear layers and LayerNorms run on [tokens, hidden]. Attention runs once per group of texts of equal length, as
[count, length, hidden], without mask or padding: a Loop over the groups, all weights outside of it. The masked-LM
decoder sees the mask rows alone. Every row's values depend on its own text only, bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from bertserve.bundle import Head
from bertserve.engine.items import Float32s
from bertserve.engine.ort.run_memory import LONG_TEXT_TOKENS

from bertexport.encoders.architecture import Architecture, Weights
from bertexport.encoders.family import Module
from bertexport.fit.quantization import LOWEST_OF_ACTIVATION, Int8Plan, quantize_weight
from bertexport.graph.attention import QueryKeyValue, write_attention
from bertexport.graph.groups import Groups, write_groups
from bertexport.graph.heads import HeadWriter
from bertexport.graph.int8_nodes import Int8Writer
from bertexport.graph.layer_outputs import LayerOutputs
from bertexport.graph.modules import ModuleWriter
from bertexport.graph.nodes import NodeWriter, tensor_info, write_graph
from bertexport.heads.registry import EXPORTED_HEADS

# Table of the embeddings → the graph's input that says which of its rows a token takes, in the order of the sum.
TABLE_ROWS = {"word": "input_ids", "token_type": "token_type_ids", "position": "position_ids"}


def build_graph(weights: Weights, architecture: Architecture, directory: Path, plan: Int8Plan | None = None) -> None:
    """Write model.onnx (and model.onnx.data) into `directory`; in int8 by the plan, in fp32 without one."""
    graph = _PackedGraph(weights, architecture, directory, plan)
    graph.write_encoder()
    heads = HeadWriter(modules=graph.modules, last_rows=graph.last, decode=graph.decode)
    for head in architecture.heads:
        EXPORTED_HEADS[head].write(heads)
    write_graph(graph.writer, [*graph.inputs, *heads.inputs], [*graph.outputs, *heads.outputs])


class _PackedGraph:
    def __init__(self, weights: Weights, architecture: Architecture, directory: Path, plan: Int8Plan | None) -> None:
        self.writer = NodeWriter(directory)
        self.modules = ModuleWriter(nodes=self.writer, weights=weights, architecture=architecture)
        self._int8 = Int8Writer(self.writer, "input_ids")
        self._plan = plan
        self._weights = weights
        self._architecture = architecture
        self._has_long_texts = architecture.longest_text > LONG_TEXT_TOKENS
        sizes = architecture.hidden_size, architecture.layer_count
        self._layers = LayerOutputs(self.writer, *sizes, on_demand=self._has_long_texts)
        self.last = self._layers.rows(architecture.layer_count)
        self.inputs = [
            *(
                tensor_info(rows, ["tokens"], ints=True)
                for role, rows in TABLE_ROWS.items()
                if role in weights.family.embeddings
            ),
            tensor_info("group_starts", ["bounds"], ints=True),
            tensor_info("group_shapes", ["groups", 3], ints=True),
        ]
        self.outputs: list[onnx.ValueInfoProto] = []

    def write_encoder(self) -> None:
        groups = write_groups(self.writer, self._architecture.hidden_size, long_texts=self._has_long_texts)
        self._layers.begin(self.inputs)
        self._embed()
        self._layers.offer(0, self.outputs)
        for layer in range(self._architecture.layer_count):
            self._write_layer(self._layers.rows(layer), layer, groups)
            self._layers.offer(layer + 1, self.outputs)

    def _embed(self) -> str:
        writer, family = self.writer, self._weights.family
        modules = family.embeddings
        total, *others = (
            self._look_up(modules[role], rows, role) for role, rows in TABLE_ROWS.items() if role in modules
        )
        for rows in others:
            total = writer.node("Add", [total, rows], f"{rows}_sum")
        if not self._architecture.projects or family.projection is None:
            return self.modules.normalize(total, modules["embedding_norm"], self._layers.rows(0))
        normal = self.modules.normalize(total, modules["embedding_norm"], "embeddings")
        return self.modules.linear(normal, family.projection, self._layers.rows(0))

    def _look_up(self, module: Module, indices: str, role: str) -> str:
        table = self.modules.tensors(module)["weight"]
        if role == "word" and self._is_int8("word_table"):
            return self._int8.gather(quantize_weight(table), indices, role)
        if self._plan is not None:
            return self.writer.gather_halves(f"{role}_half_table", table, indices, f"{role}_rows")
        return self.writer.gather(self.writer.constant(f"{role}_table", table), indices, f"{role}_rows")

    def _write_layer(self, hidden: str, layer: int, groups: Groups) -> str:
        modules, name, activation = self._weights.family.layer, f"layer_{layer}", self._architecture.activation
        summed = self.writer.node("Add", [self._attend(hidden, layer, groups), hidden], f"{name}.attention_sum")
        middle = self.modules.normalize(summed, modules["attention_norm"], f"{name}.middle", layer)
        up = self._encode(middle, self.modules.tensors(modules["up"], layer), f"{name}.up")
        active = self.writer.activate(up, activation, f"{name}.active")
        lowest = LOWEST_OF_ACTIVATION.get(activation)
        down = self._encode(active, self.modules.tensors(modules["down"], layer), f"{name}.down", lowest)
        summed = self.writer.node("Add", [down, middle], f"{name}.output_sum")
        return self.modules.normalize(summed, modules["output_norm"], self._layers.rows(layer + 1), layer)

    def _attend(self, hidden: str, layer: int, groups: Groups) -> str:
        """Query, key and value; then attention within each text, and the projection of what it gathers."""
        modules, name, heads = self._weights.family.layer, f"layer_{layer}", self._architecture.attention_heads
        query, key, value = (self.modules.tensors(modules[role], layer) for role in ("query", "key", "value"))
        projection = self.modules.tensors(modules["projection"], layer)
        rows: str | QueryKeyValue
        if self._is_int8(f"{name}.qkv"):
            rows = self._project_apart(hidden, name, {"all_queries": query, "all_keys": key, "all_values": value})
            projection["bias"] = projection["bias"] + projection["weight"] @ value["bias"]
        else:
            parts = (query, key, value)
            joined = {tensor: np.concatenate([part[tensor] for part in parts]) for tensor in ("weight", "bias")}
            rows = self._encode(hidden, joined, f"{name}.qkv")
        attended = write_attention(self.writer, name, rows, groups, heads, self._layers.go_on(layer))
        return self._encode(attended, projection, f"{name}.projection")

    def _project_apart(self, hidden: str, name: str, parts: dict[str, dict[str, Float32s]]) -> QueryKeyValue:
        """Query, key and value in int8, each by itself, with no more passes over their rows than there have to be.

        Only the query needs its bias here. The key's adds the same to all scores of a query, which softmax does not
        see; the value's comes through attention as it is, whose weights sum to 1, and is added with the projection's.
        """
        rows, scales = self._smooth(hidden, f"{name}.qkv")
        query, key, value = (
            self._int8.linear(
                rows,
                quantize_weight(tensors["weight"] * scales),
                tensors["bias"] if output == "all_queries" else None,
                f"{name}.{output}",
            )
            for output, tensors in parts.items()
        )
        return query, key, value

    def decode(self, states: str) -> str:
        """Logits over the vocabulary. A decoder that is the word table reads the constant that the embedding reads."""
        tensors = self.modules.tensors(self._weights.family.last_module(Head.MASKED_LM))
        words = self.modules.tensors(self._weights.family.embeddings["word"])["weight"]
        in_int8 = self._is_int8("mask_logits")
        tied = np.array_equal(words, tensors["weight"]) and in_int8 == self._is_int8("word_table")
        if not in_int8:
            name = "word_table" if tied else ""
            return self.writer.linear(states, tensors["weight"], tensors["bias"], "mask_logits", name)
        weight, table = quantize_weight(tensors["weight"]), "word" if tied else ""
        writer = Int8Writer(self.writer, "mask_rows")
        return writer.linear(states, weight, tensors["bias"], "mask_logits", table=table)

    def _encode(self, rows: str, tensors: dict[str, Float32s], name: str, lowest: float | None = None) -> str:
        """A linear layer of the encoder, in the precision that the plan has for it. lowest: see `Int8Writer.linear`."""
        weight, bias = tensors["weight"], tensors["bias"]
        if not self._is_int8(name):
            return self.writer.linear(rows, weight, bias, name)
        rows, scales = self._smooth(rows, name)
        return self._int8.linear(rows, quantize_weight(weight * scales), bias, name, lowest=lowest)

    def _smooth(self, rows: str, name: str) -> tuple[str, Float32s]:
        """The rows divided by the plan's scales for the part, and the scales; as they are, and 1, where it has none."""
        scales = self._plan.smoothing.get(name) if self._plan is not None else None
        if scales is None:
            return rows, np.ones(1, np.float32)
        factors = self.writer.constant(f"{name}.smoothing", 1 / scales)
        return self.writer.node("Mul", [rows, factors], f"{name}.smooth"), scales

    def _is_int8(self, part: str) -> bool:
        return self._plan is not None and part not in self._plan.kept
