"""The loop that fine-tunes: a pretrained encoder, a new classifier on its pooler, cross-entropy, AdamW."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from freezing import Freezing, count_learning, freeze
from labelled import Example, LabelledFileError, draw_batches
from rich.progress import Progress
from torch import nn
from transformers import AutoTokenizer, BertForSequenceClassification, PreTrainedTokenizerBase

WEIGHT_DECAY = 0.01
WARM_UP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train. max_tokens: longer texts are cut at their end, special tokens counted."""

    freezing: Freezing = field(default_factory=Freezing)
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    max_tokens: int = 128
    seed: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochFigures:
    """accuracy and, of two labels, f1 of the second, on the dev examples; seconds: training alone, since the start."""

    epoch: int
    learning_parameters: int
    loss: float
    accuracy: float
    f1: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids and segment ids of each example, its label's index, and how many texts were cut."""

    input_ids: list[list[int]]
    token_type_ids: list[list[int]]
    labels: list[int]
    cut: int

    @property
    def lengths(self) -> list[int]:
        return [len(ids) for ids in self.input_ids]


class FineTuning:
    """A checkpoint on its way to telling labels apart. `train_epoch` once per epoch, then `save`."""

    def __init__(self, checkpoint: Path, labels: dict[str, str], examples: Sequence[Example], recipe: Recipe) -> None:
        """labels: from a label in the examples to its name in the checkpoint's config, in the order of the head."""
        torch.manual_seed(recipe.seed)
        self._recipe = recipe
        self._indices = {label: index for index, label in enumerate(labels)}
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
        self.model = load_classifier(checkpoint, list(labels.values()))
        self._optimizer = make_optimizer(self.model)
        self._rng = np.random.default_rng(recipe.seed)
        self._encoded = self.encode(examples)
        self._batches_per_epoch = -(-len(examples) // recipe.batch_size)
        self._step = 0
        self._seconds = 0.0
        self._epoch = 0

    @property
    def cut_examples(self) -> int:
        return self._encoded.cut

    def encode(self, examples: Sequence[Example]) -> Encoded:
        """Tokenize. Raises LabelledFileError for a label that the training examples lack."""
        unknown = {example.label for example in examples} - self._indices.keys()
        if unknown:
            raise LabelledFileError(f"labels that no training example has: {', '.join(sorted(unknown))}")
        pairs = [example.pair for example in examples if example.pair is not None]
        texts = [example.text for example in examples]
        encoded: Any = self.tokenizer(texts, pairs or None, truncation=True, max_length=self._recipe.max_tokens)
        return Encoded(
            input_ids=encoded["input_ids"],
            token_type_ids=encoded["token_type_ids"],
            labels=[self._indices[example.label] for example in examples],
            cut=self._count_cut(texts, pairs, encoded["input_ids"]),
        )

    def train_epoch(self, dev: Encoded, progress: Progress) -> EpochFigures:
        """One pass over the training examples, then the figures on `dev`."""
        freeze(self.model, self._recipe.freezing.frozen_layers(self._epoch, len(self.model.bert.encoder.layer)))
        bar = progress.add_task(f"epoch {self._epoch + 1} of {self._recipe.epochs}", total=self._batches_per_epoch)
        started = time.monotonic()
        losses = []
        self.model.train()
        for members in draw_batches(self._encoded.lengths, self._recipe.batch_size, self._rng):
            losses.append(self._train_step(members))
            progress.advance(bar)
        self._seconds += time.monotonic() - started
        self._epoch += 1
        predicted = self.predict(dev)
        return EpochFigures(
            epoch=self._epoch,
            learning_parameters=count_learning(self.model),
            loss=float(np.mean(losses)),
            accuracy=float(np.mean(predicted == np.array(dev.labels))),
            f1=f1_score(predicted, np.array(dev.labels)) if len(self._indices) == 2 else None,
            seconds=self._seconds,
        )

    @torch.inference_mode()
    def predict(self, encoded: Encoded) -> np.ndarray:
        """Index of the likeliest label of each example, int64 [examples]."""
        self.model.eval()  # type: ignore[no-untyped-call]
        predicted = np.zeros(len(encoded.labels), dtype=np.int64)
        order = np.argsort(encoded.lengths, kind="stable")
        for members in np.split(order, range(self._recipe.batch_size, len(order), self._recipe.batch_size)):
            predicted[members] = self.model(**self._pad(encoded, members.tolist())).logits.argmax(-1).numpy()
        return predicted

    def save(self, directory: Path) -> None:
        """The checkpoint in Hugging Face form: weights, config with the labels' names, tokenizer."""
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def _count_cut(self, texts: list[str], pairs: list[str], kept: list[list[int]]) -> int:
        """How many of the texts that fill the limit would have gone on."""
        full = [index for index, ids in enumerate(kept) if len(ids) == self._recipe.max_tokens]
        if not full:
            return 0
        whole: Any = self.tokenizer([texts[i] for i in full], [pairs[i] for i in full] if pairs else None)
        return sum(len(ids) > self._recipe.max_tokens for ids in whole["input_ids"])

    def _train_step(self, members: list[int]) -> float:
        progress = self._step / (self._recipe.epochs * self._batches_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate * rate_factor(progress)
        labels = torch.tensor([self._encoded.labels[member] for member in members])
        logits = self.model(**self._pad(self._encoded, members)).logits
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1
        return loss.item()

    def _pad(self, encoded: Encoded, members: list[int]) -> dict[str, torch.Tensor]:
        rows = {
            "input_ids": [encoded.input_ids[member] for member in members],
            "token_type_ids": [encoded.token_type_ids[member] for member in members],
        }
        return dict(self.tokenizer.pad(rows, return_tensors="pt"))


def load_classifier(checkpoint: Path, labels: list[str]) -> BertForSequenceClassification:
    """The checkpoint's encoder and pooler under a new classifier; other heads are left behind."""
    model: BertForSequenceClassification = BertForSequenceClassification.from_pretrained(
        checkpoint,
        dtype=torch.float32,
        local_files_only=True,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="single_label_classification",
    )
    return model


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW; biases and LayerNorm weights are not decayed. Frozen parameters get no gradient and are skipped."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def rate_factor(progress: float) -> float:
    """Share of the peak learning rate: linear warm-up, then linear to zero; progress from 0 to 1."""
    return progress / WARM_UP if progress < WARM_UP else (1 - progress) / (1 - WARM_UP)


def f1_score(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Harmonic mean of precision and recall of label 1; 0 where it is neither predicted nor there."""
    right = int(((predicted == 1) & (labels == 1)).sum())
    named = int((predicted == 1).sum() + (labels == 1).sum())
    return 2 * right / named if named else 0.0


def majority_share(encoded: Encoded) -> float:
    """The accuracy of always naming the most frequent label."""
    return float(np.bincount(encoded.labels).max() / len(encoded.labels))
