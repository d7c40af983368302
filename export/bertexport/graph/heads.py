"""The heads: what each reads from the last layer's rows, and the inputs and outputs that it adds to the graph.

A head reads rows by index, so a batch that does not ask for it gives it no rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from bertserve.bundle import Head

from bertexport.encoders.family import Kind, Step
from bertexport.graph.masked_words import Decode, write_masked_words
from bertexport.graph.modules import ModuleWriter
from bertexport.graph.nodes import tensor_info


class HeadWriter:
    """Writes heads one after the other, and collects the inputs and outputs that they add."""

    def __init__(self, modules: ModuleWriter, hidden: str, decode: Decode) -> None:
        """hidden: the last layer's rows [tokens, hidden]. decode: states of masked words → their logits."""
        self._modules = modules
        self._hidden = hidden
        self._decode = decode
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def write(self, head: Head) -> None:
        architecture = self._modules.architecture
        match head:
            case Head.EMBEDDING:
                pass
            case Head.POOLER:
                self._write_row_head(head, "pooler_rows", "pooled", architecture.hidden_size)
            case Head.MASKED_LM:
                self._write_masked_lm()
            case Head.NEXT_SENTENCE:
                self._write_row_head(head, "next_sentence_rows", "next_sentence_logits", 2)
            case Head.SEQUENCE_CLASSIFICATION:
                self._write_row_head(head, "class_rows", "class_logits", len(architecture.labels))
            case Head.TOKEN_CLASSIFICATION:
                self._write_row_head(head, "tag_rows", "tag_logits", len(architecture.labels))

    def _write_masked_lm(self) -> None:
        """On the mask rows alone: decode, then the k likeliest tokens and the asked targets, as log-probabilities."""
        writer, architecture = self._modules.nodes, self._modules.architecture
        for name in ("mask_rows", "target_masks", "target_ids"):
            self.inputs.append(tensor_info(name, ["targets" if "target" in name else "masks"], ints=True))
        self.inputs.append(tensor_info("top_k", [1], ints=True))
        rows = writer.gather(self._hidden, "mask_rows", "mask_hidden")
        # The last step is the decoder.
        steps = self._modules.weights.family.heads[Head.MASKED_LM][:-1]
        write_masked_words(
            writer,
            self._apply(steps, rows, "mask_states"),
            self._decode,
            vocabulary_size=architecture.vocabulary_size,
            longest_text=architecture.longest_text,
        )
        self._add_output("mask_top_ids", ["masks", "k"], ints=True)
        self._add_output("mask_top_log_probs", ["masks", "k"])
        self._add_output("target_log_probs", ["targets"])

    def _write_row_head(self, head: Head, rows: str, output: str, size: int) -> None:
        """The head's steps over the rows asked, an output for each."""
        self.inputs.append(tensor_info(rows, [rows], ints=True))
        hidden = self._modules.nodes.gather(self._hidden, rows, f"{output}.hidden")
        self._apply(self._modules.weights.family.heads[head], hidden, output)
        self._add_output(output, [f"{output}_count", size])

    def _apply(self, steps: Sequence[Step], rows: str, output: str) -> str:
        """A head's steps one after the other; the last one gives `output`. Heads share the modules that both apply."""
        for number, step in enumerate(steps, start=1):
            name = output if number == len(steps) else f"{output}.step_{number}"
            if isinstance(step, str):
                rows = self._modules.activate(rows, step, name)
            elif step.kind is Kind.NORM:
                rows = self._modules.normalize(rows, step, name)
            else:
                rows = self._modules.linear(rows, step, name, weight_name=f"{step.name}.weight")
        return rows

    def _add_output(self, name: str, shape: list[int | str], *, ints: bool = False) -> None:
        self.outputs.append(tensor_info(name, shape, ints=ints))
