"""Pretraining, on a tiny text with a tiny model."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus import Corpus, tokenize_articles
from pairs import Batch, SpecialTokens, draw_batches
from pretrain import Run, learning_rate, make_model, make_optimizer, train_step
from tokenizers import Tokenizer
from transformers import BertForPreTraining
from vocabulary import special_tokens

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("one_thread")]

RunExample = Callable[..., subprocess.CompletedProcess[str]]

RATES = {
    "start": (0.0, 0.0),
    "half of the warm-up": (0.05, 0.5),
    "peak": (0.1, 1.0),
    "half of the decay": (0.55, 0.5),
    "end": (1.0, 0.0),
    "beyond the end": (1.5, 0.0),
}


@pytest.fixture(scope="module")
def special(tokenizer: Tokenizer) -> SpecialTokens:
    return special_tokens(tokenizer)


@pytest.fixture(scope="module")
def corpus(articles: list[list[str]], tokenizer: Tokenizer) -> Corpus:
    return tokenize_articles(articles, tokenizer)


def start_run(special: SpecialTokens, seed: int = 0) -> Run:
    torch.manual_seed(seed)
    model = make_model(argparse.Namespace(layers=1, hidden=64, max_tokens=64), special.vocabulary_size)
    return Run(model.train(), make_optimizer(model, weight_decay=0.01), np.random.default_rng([seed, 0]))


def batches_of(run: Run, corpus: Corpus, special: SpecialTokens) -> Iterator[Batch]:
    return draw_batches(corpus, special, 512, 64, run.batches_rng, progress=lambda: 0.0)


@pytest.mark.parametrize(("progress", "rate"), RATES.values(), ids=RATES.keys())
def test_learning_rate_rises_and_falls(progress: float, rate: float) -> None:
    """Linear to the peak, then a half cosine to zero."""
    assert learning_rate(progress, peak=1.0, warmup=0.1) == pytest.approx(rate)


def test_weight_matrices_decay_and_biases_do_not(special: SpecialTokens) -> None:
    """Every parameter is in one of the two groups."""
    run = start_run(special)
    decayed, undecayed = run.optimizer.param_groups
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.01, 0.0)
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])
    assert all(parameter.ndim < 2 for parameter in undecayed["params"])
    assert len(decayed["params"]) + len(undecayed["params"]) == len(list(run.model.parameters()))


def test_both_losses_fall_in_a_hundred_steps(corpus: Corpus, special: SpecialTokens) -> None:
    """The same batch, seen a hundred times, is predicted better on both tasks."""
    run = start_run(special)
    batch = next(batches_of(run, corpus, special))
    losses = [train_step(run, batch, rate=3e-3) for _ in range(100)]
    assert losses[-1].masked_lm.item() < losses[0].masked_lm.item() - 1.0
    assert losses[-1].next_sentence.item() < losses[0].next_sentence.item() - 0.1


def test_resumed_run_goes_on_where_it_stopped(corpus: Corpus, special: SpecialTokens, tmp_path: Path) -> None:
    """Step, tokens, seconds, weights and the optimizer's state return; the next steps are those of an unbroken run."""
    run = start_run(special)
    batches = batches_of(run, corpus, special)
    for _ in range(3):
        train_step(run, next(batches), rate=1e-3)
    run.seconds = 12.5
    run.save(tmp_path / "run.pt")

    resumed = start_run(special, seed=1)
    resumed.resume(tmp_path / "run.pt", seed=0)
    assert (resumed.step, resumed.tokens, resumed.seconds) == (3, run.tokens, 12.5)
    following = next(batches)
    assert train_step(resumed, following, rate=1e-3).as_dict() == train_step(run, following, rate=1e-3).as_dict()
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), resumed.model.parameters(), strict=True))


def test_same_seed_same_training(corpus: Corpus, special: SpecialTokens) -> None:
    """Two runs of one seed have the same losses."""
    runs = [start_run(special) for _ in "ab"]
    first, second = (
        [train_step(run, batch, 1e-3).as_dict() for batch in islice(batches_of(run, corpus, special), 3)]
        for run in runs
    )
    assert first == second


@pytest.mark.slow
def test_script_makes_a_checkpoint_and_resumes(articles_file: Path, tmp_path: Path, run_example: RunExample) -> None:
    """Run twice: the second run says where it resumes; the checkpoint is in half precision, with BERT's dropout."""
    small = ["--layers", "1", "--hidden", "64", "--vocabulary", "300", "--max-tokens", "64", "--batch-tokens", "256"]

    def pretrain(minutes: str) -> str:
        return run_example("pretrain/pretrain.py", articles_file, "-o", tmp_path, "--minutes", minutes, *small).stdout

    assert "resuming" not in pretrain("0.01")
    assert "resuming at step" in pretrain("0.02")
    model = BertForPreTraining.from_pretrained(tmp_path / "checkpoint")
    assert model.dtype == torch.float16
    assert model.config.hidden_dropout_prob == model.config.attention_probs_dropout_prob == 0.1
