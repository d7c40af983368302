"""Masked words. The decoder sees the mask rows alone; PyTorch's logits become log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from bertserve.engine.items import Float32s, Wanted
from bertserve.heads.contract import HeadKind
from bertserve.heads.masked_lm import MASK_ROWS, MASKED_LM

from bertexport.graph.heads import HeadWriter
from bertexport.graph.masked_words import write_masked_words
from bertexport.heads.contract import Forward, Probe

TOP_K = 10
SPREAD_TARGETS = 64
GOLDEN_TARGETS = 5


@dataclass(frozen=True, slots=True)
class MaskedWordsExport:
    """Verified on the ten likeliest words of every mask, and on words from all over the vocabulary."""

    kind: HeadKind = MASKED_LM
    joint_output: str = "prediction_logits"

    def ask(self, wanted: Wanted, probe: Probe) -> Wanted:
        words = probe.vocabulary_size
        if not probe.masks:
            return wanted
        spread = tuple(range(0, words, -(-words // SPREAD_TARGETS)))
        return replace(wanted, mask_positions=probe.masks, top_k=min(TOP_K, words), target_ids=spread)

    def narrow(self, wanted: Wanted) -> Wanted:
        return wanted

    def aim(self, wanted: Wanted, reference: Float32s) -> Wanted:
        """The targets become PyTorch's likeliest words at the first mask."""
        if not wanted.mask_positions:
            return wanted
        likeliest = np.argsort(-reference[0], kind="stable")[:GOLDEN_TARGETS]
        return replace(wanted, top_k=len(likeliest), target_ids=tuple(likeliest.tolist()))

    def refer(self, forward: Forward) -> Float32s:
        logits = forward.logits[self.kind.head][list(forward.item.wanted.mask_positions)]
        log_probabilities: Float32s = torch.from_numpy(logits).log_softmax(-1).numpy()
        return log_probabilities

    def write(self, graph: HeadWriter) -> None:
        """On the mask rows alone: decode, then the k likeliest tokens and the asked targets, as log-probabilities."""
        nodes, weights, architecture = graph.modules.nodes, graph.modules.weights, graph.modules.architecture
        graph.add_inputs(self.kind.inputs)
        rows = nodes.gather(graph.last_rows, MASK_ROWS, "mask_hidden")
        # The last step is the decoder.
        states = graph.apply(weights.family.heads[self.kind.head][:-1], rows, "mask_states")
        write_masked_words(
            nodes,
            states,
            graph.decode,
            vocabulary_size=architecture.vocabulary_size,
            longest_text=architecture.longest_text,
        )
        graph.add_outputs(self.kind.outputs)


EXPORT = MaskedWordsExport()
