"""From checkpoint to client: what a server answers over gRPC is what `transformers` computes in PyTorch, fp32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bertapi.client import BertClient
from checkpoints import write_checkpoint
from servers import RunningServer

pytestmark = pytest.mark.export

ROOT = Path(__file__).parents[2]
DEMO_CHECKPOINT = ROOT / "examples" / "pretrain" / "checkpoint"

# The seed example, then lengths from one token to many.
SEED = ("calculus is a [MASK] of math", "it [MASK] developed by newton and leibniz")
PAIRS = [
    SEED,
    ("the [MASK] sat on the mat", "[MASK]"),
    ("[MASK]", ""),
    ("the cat sat on the " * 8 + "[MASK]", "the dog did not sit on the [MASK] " * 4),
]


@dataclass(frozen=True)
class Case:
    """A server's client, the name of a model there, and the checkpoint that the model was exported from."""

    client: BertClient
    model: str
    checkpoint: Path


@pytest.fixture(scope="module", params=["tiny", "demo"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    if request.param == "demo":
        running: RunningServer = request.getfixturevalue("demo_server")
        model, checkpoint = "demo", DEMO_CHECKPOINT
    else:
        running = request.getfixturevalue("server")
        model, checkpoint = "pretraining", write_checkpoint(tmp_path_factory.mktemp("tiny") / "pretraining")
    with BertClient(running.target, model=model) as client:
        yield Case(client, model, checkpoint)


@pytest.fixture(scope="module")
def reference(case: Case) -> Any:
    return transformers.BertForPreTraining.from_pretrained(
        case.checkpoint, attn_implementation="eager", dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module")
def expected(case: Case, reference: Any) -> list[dict[str, np.ndarray]]:
    """PyTorch's outputs for every pair, one at a time, without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(case.checkpoint)
    outputs = []
    for first, second in PAIRS:
        # As a list of pairs: on its own, an empty second text is no pair to `transformers`.
        encoded = tokenizer([(first, second)], return_tensors="pt", truncation=False, padding=False)
        with torch.no_grad():
            run = reference(**encoded, output_hidden_states=True)
            pooled = reference.bert(**encoded).pooler_output
        masks = encoded["input_ids"][0] == tokenizer.mask_token_id
        outputs.append(
            {
                "layers": torch.stack(run.hidden_states)[:, 0].numpy(),
                "pooled": pooled[0].numpy(),
                "log_probabilities": torch.log_softmax(run.prediction_logits[0][masks], dim=-1).numpy(),
                "next_sentence": run.seq_relationship_logits[0].numpy(),
            }
        )
    return outputs


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """The fp32 gate: |Δ| ≤ 1e-4 × max(1, max |expected|)."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_hidden_states_of_every_layer(case: Case, expected: list[dict[str, np.ndarray]]) -> None:
    """Each token's vector in each layer, the embedding layer included."""
    for layer in range(len(expected[0]["layers"])):
        embeddings = case.client.embed(PAIRS, pooling="none", layers=[layer], normalize=False)
        for embedding, outputs in zip(embeddings, expected, strict=True):
            assert_close(embedding.vectors, outputs["layers"][layer])


def test_pooler(case: Case, expected: list[dict[str, np.ndarray]]) -> None:
    """Dense and tanh over the first token."""
    for embedding, outputs in zip(case.client.embed(PAIRS, pooling="pooler", normalize=False), expected, strict=True):
        assert_close(embedding.vectors, outputs["pooled"])


def test_masked_words(case: Case, expected: list[dict[str, np.ndarray]]) -> None:
    """The k likeliest words at every mask, and their log-probabilities."""
    for filled, outputs in zip(case.client.fill_mask(PAIRS, top_k=10), expected, strict=True):
        assert len(filled.masks) == len(outputs["log_probabilities"])
        for mask, log_probabilities in zip(filled.masks, outputs["log_probabilities"], strict=True):
            ids = [prediction.token_id for prediction in mask.predictions]
            best = np.sort(log_probabilities)[::-1][:10]
            assert_close(np.array([prediction.log_probability for prediction in mask.predictions]), best)
            assert_close(log_probabilities[ids], best)


def test_next_sentence(case: Case, expected: list[dict[str, np.ndarray]]) -> None:
    """Both logits."""
    for (first, second), outputs in zip(PAIRS, expected, strict=True):
        (score,) = case.client.score_next_sentence(first, [second])
        assert_close(np.array([score.is_next_logit, score.not_next_logit]), outputs["next_sentence"])


def test_seed_example_in_one_call(case: Case, expected: list[dict[str, np.ndarray]]) -> None:
    """Both masks and the pair, scored as PyTorch scores them, from one call of Analyze."""
    (analysis,) = case.client.analyze([SEED], fill_mask=True, next_sentence=True)
    for mask, log_probabilities in zip(analysis.fill_mask.masks, expected[0]["log_probabilities"], strict=True):
        assert mask.predictions[0].token_id == log_probabilities.argmax()
    logits = np.array([analysis.next_sentence.is_next_logit, analysis.next_sentence.not_next_logit])
    assert_close(logits, expected[0]["next_sentence"])


def test_class_scores(server: RunningServer, tmp_path: Path) -> None:
    """Logits of a sequence-classification head, and the softmax over them."""
    checkpoint = write_checkpoint(tmp_path / "classifier", ("sequence_classification",))
    model = transformers.BertForSequenceClassification.from_pretrained(checkpoint, attn_implementation="eager").eval()
    encoded = transformers.AutoTokenizer.from_pretrained(checkpoint)(
        "the cat sat on the mat", return_tensors="pt", truncation=False
    )
    with torch.no_grad():
        logits = model(
            **{name: tensor[:, : encoded["attention_mask"].sum()] for name, tensor in encoded.items()}
        ).logits[0]
    with BertClient(server.target, model="classifier") as client:
        (result,) = client.classify(["the cat sat on the mat"])
    scores = {label.index: label for label in result.labels}
    assert_close(np.array([scores[index].logit for index in range(2)]), logits.numpy())
    assert_close(np.array([scores[index].probability for index in range(2)]), torch.softmax(logits, -1).numpy())
