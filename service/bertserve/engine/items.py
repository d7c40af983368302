"""What goes into the engine and what comes out: frozen values, one item a text or text pair."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The outputs that an item asks for; nothing else is computed for it. The files of `heads` read these fields.

    layers: hidden states to return, 0 = embedding layer … layer_count = last.
    mask_positions: rows of the item whose tokens the masked-LM head predicts; top_k and target_ids (one tuple for all
    masks of the item) say what of the distribution to return.
    """

    layers: tuple[int, ...] = ()
    mask_positions: tuple[int, ...] = ()
    target_ids: tuple[int, ...] = ()
    top_k: int = 0
    pooler: bool = False
    next_sentence: bool = False
    classify: bool = False
    tag: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One input as the model sees it. input_ids, token_type_ids: int64 [length], special tokens included."""

    input_ids: Int64s
    token_type_ids: Int64s
    wanted: Wanted

    @property
    def length(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutputs:
    """The outputs of one item, float32 unless said; those not wanted are None or empty.

    layers: layer → [length, hidden]; pooled: [hidden], tanh applied; mask_top_ids: int64 [masks, k];
    mask_top_log_probabilities: [masks, k]; target_log_probabilities: [masks, targets]; next_sentence_logits: [2], is
    next first; class_logits: [labels]; tag_logits: [length, labels].
    """

    layers: dict[int, Float32s] = field(default_factory=dict)
    pooled: Float32s | None = None
    mask_top_ids: Int64s | None = None
    mask_top_log_probabilities: Float32s | None = None
    target_log_probabilities: Float32s | None = None
    next_sentence_logits: Float32s | None = None
    class_logits: Float32s | None = None
    tag_logits: Float32s | None = None
