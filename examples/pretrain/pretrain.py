"""Pretrain a small BERT from scratch, on masked words and next sentences at once.

    python examples/pretrain/pretrain.py TEXT -o DIR --minutes 120

Run it again to go on where it stopped. DIR/checkpoint is the model in Hugging Face form; DIR/log.jsonl the losses.
The recipe is Devlin et al. 2018 (arXiv:1810.04805), with what later work found for a small budget: the vocabulary layer
on masked rows alone, mostly short texts (Izsak et al. 2021, arXiv:2104.07705), no dropout while hardly any text is seen
twice, products in bfloat16 where the processor multiplies it (Kalamkar et al. 2019, arXiv:1905.12322).
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from corpus import Corpus, load_corpus, save_corpus, tokenize_articles, training_articles
from pairs import NOT_MASKED, Batch, SpecialTokens, draw_batches
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from transformers import BertConfig, BertForPreTraining
from vocabulary import load_vocabulary, special_tokens, train_vocabulary

SAVE_EVERY_SECONDS = 300
LOG_EVERY_STEPS = 50


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one batch: the two cross-entropies (their sum is what is minimised), and the share of right answers."""

    masked_lm: torch.Tensor
    next_sentence: torch.Tensor
    masked_lm_accuracy: torch.Tensor
    next_sentence_accuracy: torch.Tensor

    def as_dict(self) -> dict[str, float]:
        return {name: getattr(self, name).item() for name in self.__slots__}


@dataclass(slots=True)
class Run:
    """What a resumed training needs: everything that changes while it goes on."""

    model: BertForPreTraining
    optimizer: torch.optim.Optimizer
    batches_rng: np.random.Generator
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counters": [self.step, self.tokens, self.seconds],
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self, path: Path, seed: int) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.tokens, self.seconds = state["counters"]
        self.batches_rng = np.random.default_rng([seed, self.step])


@functools.cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself, at about twice the speed of float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def compute_losses(model: BertForPreTraining, batch: Batch) -> Losses:
    """The vocabulary-wide layer runs on the rows of asked tokens alone: on 15 % of the rows, at 15 % of its cost."""
    tensors = {
        name: torch.from_numpy(getattr(batch, name)) for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    encoded = model.bert(**tensors)
    labels = torch.from_numpy(batch.labels)
    asked = labels != NOT_MASKED
    token_logits = model.cls.predictions(encoded.last_hidden_state[asked])
    pair_logits = model.cls.seq_relationship(encoded.pooler_output)
    pair_labels = torch.from_numpy(batch.next_sentence_label)
    return Losses(
        masked_lm=nn.functional.cross_entropy(token_logits, labels[asked]),
        next_sentence=nn.functional.cross_entropy(pair_logits, pair_labels),
        masked_lm_accuracy=(token_logits.argmax(-1) == labels[asked]).float().mean(),
        next_sentence_accuracy=(pair_logits.argmax(-1) == pair_labels).float().mean(),
    )


def learning_rate(progress: float, peak: float, warmup: float = 0.03) -> float:
    """Linear warm-up, then a cosine to zero; progress from 0 to 1."""
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (decoupled weight decay, arXiv:1711.05101); biases and LayerNorm weights are not decayed."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-6, fused=True)


def train_step(run: Run, batch: Batch, rate: float) -> Losses:
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
        losses = compute_losses(run.model, batch)
    (losses.masked_lm + losses.next_sentence).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.step += 1
    run.tokens += int(batch.attention_mask.sum())
    return losses


def train(run: Run, batches: Iterator[Batch], budget_seconds: float, peak_rate: float, directory: Path) -> None:
    """Train until the time is used up; the learning rate follows the time, so that any machine ends at its best.

    Time is the processor's, per thread: what other work takes from this one does not count.
    """
    recent: list[dict[str, float]] = []
    saved_at = run.seconds
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress, (directory / "log.jsonl").open("a", encoding="utf-8") as log:
        bar = progress.add_task("pretraining", total=budget_seconds, figures="")
        while run.seconds < budget_seconds:
            started = time.process_time()
            losses = train_step(run, next(batches), learning_rate(run.seconds / budget_seconds, peak_rate))
            recent.append(losses.as_dict())
            run.seconds += (time.process_time() - started) / torch.get_num_threads()
            if run.step % LOG_EVERY_STEPS == 0:
                means = {name: float(np.mean([r[name] for r in recent])) for name in recent[0]}
                recent.clear()
                log.write(json.dumps({"step": run.step, "tokens": run.tokens, "seconds": run.seconds, **means}) + "\n")
                log.flush()
                progress.update(bar, completed=run.seconds, figures=describe(run, means))
            if run.seconds - saved_at > SAVE_EVERY_SECONDS:
                run.save(directory / "run.pt")
                saved_at = run.seconds


def describe(run: Run, means: dict[str, float]) -> str:
    return (
        f"step {run.step}  {run.tokens / 1e6:.1f} M tokens  "
        f"masked {means['masked_lm']:.2f} ({means['masked_lm_accuracy']:.1%})  "
        f"next {means['next_sentence']:.3f} ({means['next_sentence_accuracy']:.1%})"
    )


def prepare(text: Path, directory: Path, vocabulary_size: int, max_tokens: int) -> tuple[Corpus, SpecialTokens]:
    """The vocabulary and the tokenized training articles, made once and kept in `directory`."""
    checkpoint, tokens = directory / "checkpoint", directory / "tokens"
    if not (checkpoint / "tokenizer.json").exists():
        print("training the vocabulary …")
        lines = (paragraph for article in training_articles(text) for paragraph in article)
        train_vocabulary(lines, vocabulary_size, checkpoint, max_tokens)
    tokenizer = load_vocabulary(checkpoint)
    if not (tokens / "tokens.npy").exists():
        print("tokenizing …")
        save_corpus(tokenize_articles(training_articles(text), tokenizer), tokens)
    return load_corpus(tokens), special_tokens(tokenizer)


def make_model(options: argparse.Namespace, vocabulary_size: int) -> BertForPreTraining:
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        intermediate_size=4 * options.hidden,
        max_position_embeddings=options.max_tokens,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForPreTraining(config)
    start_positions_as_waves(model.bert.embeddings.position_embeddings.weight)
    return model


@torch.no_grad()
def start_positions_as_waves(table: torch.Tensor) -> None:
    """Fill a position table [positions, hidden] with the sines and cosines of Vaswani et al. 2017 (arXiv:1706.03762).

    They are only where learning starts. In a random table, "the token to my left" has to be learned anew for every
    position; in waves, it is one rotation for all of them. A small budget has no time for the former: it stalls at
    word frequencies. Scaled to the size that random values would have.
    """
    size = table.std()
    positions = torch.arange(table.shape[0])[:, None]
    angles = positions / 10_000 ** (torch.arange(0, table.shape[1], 2) / table.shape[1])
    table[:, 0::2], table[:, 1::2] = torch.sin(angles), torch.cos(angles)
    table *= size / table.square().mean().sqrt()


def save_checkpoint(model: BertForPreTraining, directory: Path) -> None:
    """In half precision, with BERT's usual dropout in its config, for whoever fine-tunes it."""
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.1
    model.half().save_pretrained(directory)  # type: ignore[no-untyped-call]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a paragraph a line, a blank line between articles; .xz or plain")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=120, help="processor time per thread, kept across resumptions")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=192, help="a multiple of 64, the size of an attention head")
    parser.add_argument("--vocabulary", type=int, default=8192, metavar="SIZE")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=7e-4, help="at its peak")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=20)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    corpus, special = prepare(options.text, options.output, options.vocabulary, options.max_tokens)
    print(f"{corpus.article_count} articles, {len(corpus.tokens) / 1e6:.1f} M tokens")
    model = make_model(options, special.vocabulary_size).train()
    run = Run(model, make_optimizer(model, options.weight_decay), np.random.default_rng([options.seed, 0]))
    if (options.output / "run.pt").exists():
        run.resume(options.output / "run.pt", options.seed)
        print(f"resuming at step {run.step}")
    budget_seconds = options.minutes * 60
    batches = draw_batches(
        corpus,
        special,
        options.batch_tokens,
        options.max_tokens,
        run.batches_rng,
        progress=lambda: run.seconds / budget_seconds,
    )
    train(run, batches, budget_seconds, options.learning_rate, options.output)
    run.save(options.output / "run.pt")
    save_checkpoint(model, options.output / "checkpoint")


if __name__ == "__main__":
    main()
