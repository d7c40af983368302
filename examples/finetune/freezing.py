"""Which parameters learn: all of them, those above a layer, or one more layer from the top with every epoch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import BertForSequenceClassification


@dataclass(frozen=True, slots=True, kw_only=True)
class Freezing:
    """freeze_layers: the embeddings and so many first layers keep their pretrained weights; None for nothing frozen.
    gradual: the head alone learns in the first epoch, then one more layer per epoch (Howard & Ruder 2018,
    arXiv:1801.06146), and the embeddings last; it goes no lower than freeze_layers."""

    freeze_layers: int | None = None
    gradual: bool = False

    def frozen_layers(self, epoch: int, layer_count: int) -> int | None:
        """How many first layers are frozen, and the embeddings with them; None: nothing is. epoch counts from 0."""
        if not self.gradual or epoch > layer_count:
            return self.freeze_layers
        return max(layer_count - epoch, self.freeze_layers or 0)


def freeze(model: BertForSequenceClassification, frozen_layers: int | None) -> None:
    """Let everything learn but the embeddings and the first `frozen_layers` layers; pooler and classifier always do."""
    model.requires_grad_(requires_grad=True)
    if frozen_layers is not None:
        for part in (model.bert.embeddings, *model.bert.encoder.layer[:frozen_layers]):
            part.requires_grad_(requires_grad=False)


def count_learning(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
