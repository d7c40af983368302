"""A checkpoint in Hugging Face form, asked through `transformers`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pairs import NOT_MASKED, Pair, collate
from questions import MASK, MaskedText, PassagePair, Token
from sources import TOP, EvaluationError, Guess
from tokenizers import Encoding
from transformers import BertForPreTraining
from transformers.utils import logging
from vocabulary import load_vocabulary, special_tokens

TOKENS_PER_BATCH = 4096
PADDED = ("input_ids", "token_type_ids", "attention_mask")


class CheckpointSource:
    """Batches are padded, shortest texts first; outputs come back in the order asked.

    Raises EvaluationError for a checkpoint without one of BERT's two pretraining heads.
    """

    def __init__(self, directory: Path) -> None:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        loaded: Any = BertForPreTraining.from_pretrained(
            directory, dtype=torch.float32, output_loading_info=True, local_files_only=True
        )
        model, loading = loaded
        missing = sorted(name for name in loading["missing_keys"] if "decoder" not in name)
        if missing:
            raise EvaluationError(
                f"{directory}: no tensor for {', '.join(missing)}; a checkpoint with both heads is needed"
            )
        self._model: BertForPreTraining = model.eval()
        self._tokenizer = load_vocabulary(directory)
        self._ids = self._tokenizer.get_vocab()
        self._tokens = {index: token for token, index in self._ids.items()}

    def tokenize(self, texts: Sequence[str]) -> list[list[Token]]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            [Token(text, start, end) for text, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True)]
            for encoding in encodings
        ]

    def fill(self, questions: Sequence[MaskedText]) -> list[list[Guess]]:
        encodings = self._tokenizer.encode_batch(
            [q.text if q.text_pair is None else (q.text, q.text_pair) for q in questions]
        )
        guesses: list[list[Guess]] = [[] for _ in questions]
        for members in cut_by_tokens(encodings):
            batch = pad([encodings[member] for member in members])
            hidden = self._encode(batch).last_hidden_state[batch["input_ids"] == self._ids[MASK]]
            answered = iter(self._guess(hidden, [answer for member in members for answer in questions[member].answers]))
            for member in members:
                guesses[member] = [next(answered) for _ in questions[member].answers]
        return guesses

    def fill_as_trained(self, pairs: Sequence[PassagePair], seed: int) -> tuple[list[list[Guess]], list[list[str]]]:
        """Guesses and answers for tokens asked as training asks them: 15 % of single tokens, whatever word they are of,
        80 % of these masked, 10 % swapped, 10 % shown. Texts cannot say that, so no server can be asked it."""
        rng, special = np.random.default_rng(seed), special_tokens(self._tokenizer)
        guesses, answers = [], []
        for pair in pairs:
            first, second = (
                np.array([self._ids[token.text] for token in passage.tokens]) for passage in (pair.first, pair.second)
            )
            batch = collate([Pair(first, second, pair.is_next)], special, rng)
            asked = torch.from_numpy(batch.labels) != NOT_MASKED
            inputs = {name: torch.from_numpy(getattr(batch, name)) for name in PADDED}
            answers.append([self._tokens[index] for index in batch.labels[asked.numpy()].tolist()])
            guesses.append(self._guess(self._encode(inputs).last_hidden_state[asked], answers[-1]))
        return guesses, answers

    def score_next(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        encodings = self._tokenizer.encode_batch(list(pairs))
        scores = np.zeros(len(pairs))
        for members in cut_by_tokens(encodings):
            pooled = self._encode(pad([encodings[member] for member in members])).pooler_output
            with torch.inference_mode():
                logits = self._model.cls.seq_relationship(pooled)
            scores[members] = logits.softmax(-1)[:, 0].numpy()
        return [float(score) for score in scores]

    @torch.inference_mode()
    def _encode(self, batch: dict[str, torch.Tensor]) -> Any:
        return self._model.bert(**batch)

    @torch.inference_mode()
    def _guess(self, hidden: torch.Tensor, answers: Sequence[str]) -> list[Guess]:
        """hidden: [masks, hidden], a row per answer."""
        log_probabilities = self._model.cls.predictions(hidden).log_softmax(-1)
        top_ids = log_probabilities.topk(TOP).indices.tolist()
        of_answers = log_probabilities[range(len(answers)), [self._ids[answer] for answer in answers]].tolist()
        return [
            Guess(top=tuple(self._tokens[index] for index in top), answer_log_probability=of_answer)
            for top, of_answer in zip(top_ids, of_answers, strict=True)
        ]


def cut_by_tokens(encodings: Sequence[Encoding]) -> Iterator[list[int]]:
    """Indices of encodings by ascending length, in groups that fill a batch after padding."""
    group: list[int] = []
    for index in sorted(range(len(encodings)), key=lambda index: len(encodings[index])):
        if group and (len(group) + 1) * len(encodings[index]) > TOKENS_PER_BATCH:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def pad(encodings: Sequence[Encoding]) -> dict[str, torch.Tensor]:
    """int64 [texts, longest] each. Padding is masked out of attention, so what id it has is of no consequence."""
    shape = (len(encodings), max(len(encoding) for encoding in encodings))
    batch = {name: np.zeros(shape, dtype=np.int64) for name in PADDED}
    for row, encoding in enumerate(encodings):
        batch["input_ids"][row, : len(encoding)] = encoding.ids
        batch["token_type_ids"][row, : len(encoding)] = encoding.type_ids
        batch["attention_mask"][row, : len(encoding)] = 1
    return {name: torch.from_numpy(array) for name, array in batch.items()}
