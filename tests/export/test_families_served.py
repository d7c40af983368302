"""From another family's checkpoint to the client: what a server answers over gRPC is what `transformers` computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bertapi.client import BertClient
from bertapi.errors import BertError
from bertexport.export import export_checkpoint
from bertexport.request import ExportRequest
from family_checkpoints import SAMPLES, write_family_checkpoint
from servers import running_server

from .conftest import SilentSteps

pytestmark = pytest.mark.export

HEADS = ("masked_lm", "sequence_classification")
PAIRS = [
    ("the cat <mask> on the mat", "a dog sat <mask> the mat"),
    ("<mask>", ""),
    ("calculus is a <mask> of math", "newton"),
    ("the cat sat on the " * 8 + "<mask>", "<mask><mask> the dog"),
]


@dataclass(frozen=True)
class Case:
    """A server's client, the checkpoint behind the model, and its tokenizer."""

    client: BertClient
    family: str
    checkpoint: Path
    tokenizer: transformers.PreTrainedTokenizerBase

    def own_pairs(self) -> list[tuple[str, str]]:
        """PAIRS with the model's own mask token."""
        return self.masked(self.tokenizer.mask_token)

    def masked(self, mask: str) -> list[tuple[str, str]]:
        return [(first.replace("<mask>", mask), second.replace("<mask>", mask)) for first, second in PAIRS]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, brief_texts: Path) -> Iterator[tuple[str, Path]]:
    """One server of a bundle a family."""
    directory = tmp_path_factory.mktemp("families")
    for family in SAMPLES:
        checkpoint = write_family_checkpoint(directory / "checkpoints" / family, family, HEADS)
        request = ExportRequest(model=str(checkpoint), output=directory / family, verify=brief_texts)
        export_checkpoint(request, SilentSteps())
    with running_server(*(directory / family for family in SAMPLES)) as running:
        yield running.target, directory / "checkpoints"


@pytest.fixture(params=SAMPLES)
def case(request: pytest.FixtureRequest, target: tuple[str, Path]) -> Iterator[Case]:
    address, checkpoints = target
    checkpoint = checkpoints / request.param
    with BertClient(address, model=request.param) as client:
        yield Case(client, request.param, checkpoint, transformers.AutoTokenizer.from_pretrained(checkpoint))


def run_pytorch(case: Case, head: str, pairs: list[tuple[str, str]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids and logits of every pair, one at a time, encoded and fed as `transformers` does by default."""
    model = getattr(transformers, SAMPLES[case.family].classes[head]).from_pretrained(
        case.checkpoint, attn_implementation="eager", dtype=torch.float32
    )
    results = []
    for pair in pairs:
        encoded = case.tokenizer([pair], return_tensors="pt")
        if case.family == "distilbert":
            encoded.pop("token_type_ids", None)
        with torch.inference_mode():
            results.append((encoded["input_ids"][0].numpy(), model.eval()(**encoded).logits[0]))
    return results


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_masked_words(case: Case) -> None:
    """The likeliest words at the model's own masks, of texts and pairs of many lengths."""
    pairs = case.own_pairs()
    expected = run_pytorch(case, "masked_lm", pairs)
    for filled, (ids, logits) in zip(case.client.fill_mask(pairs, top_k=10), expected, strict=True):
        masks = logits[torch.from_numpy(ids) == case.tokenizer.mask_token_id].log_softmax(-1).numpy()
        assert len(filled.masks) == len(masks)
        for mask, log_probabilities in zip(filled.masks, masks, strict=True):
            best = np.sort(log_probabilities)[::-1][:10]
            assert_close(np.array([word.log_probability for word in mask.predictions]), best)
            assert_close(log_probabilities[[word.token_id for word in mask.predictions]], best)


def test_literal_masks_answer_as_the_models_own(case: Case) -> None:
    """[MASK] is a mask for every model, in the same place, with the same words."""
    literal, own = case.masked("[MASK]"), case.own_pairs()
    answers = zip(literal, case.client.fill_mask(literal), case.client.fill_mask(own), strict=True)
    for texts, by_literal, by_own in answers:
        assert [mask.predictions for mask in by_literal.masks] == [mask.predictions for mask in by_own.masks]
        for mask in by_literal.masks:
            assert texts[mask.segment][mask.start : mask.end] == "[MASK]"


def test_labels(case: Case) -> None:
    """Logits of a sequence-classification head, special tokens of a pair included."""
    pairs = case.own_pairs()
    expected = run_pytorch(case, "sequence_classification", pairs)
    for result, (_, logits) in zip(case.client.classify(pairs), expected, strict=True):
        scores = {label.index: label.logit for label in result.labels}
        assert_close(np.array([scores[index] for index in range(3)]), logits.numpy())


def test_words_are_written_without_their_marks(case: Case) -> None:
    """What stands for a space or a continuation in a vocabulary is none of a word's."""
    (filled,) = case.client.fill_mask([case.own_pairs()[0]], top_k=300)
    for word in (word for mask in filled.masks for word in mask.predictions):
        assert not set(word.text) & set("Ġ▁ ")
        assert not word.text.startswith("##") or word.token == word.text
        bare = word.token.lstrip("Ġ▁").removeprefix("##")
        assert word.text == bare or not bare.isascii() or "Ġ" in bare


def test_targets_are_words_of_running_text(case: Case) -> None:
    """A target with a space before it is the word as it stands in a text."""
    (filled,) = case.client.fill_mask([case.own_pairs()[0]], targets=[" sat"], top_k=0)
    ids = case.tokenizer(" sat", add_special_tokens=False).input_ids
    assert [word.token_id for word in filled.masks[0].targets] == ids
    assert filled.masks[0].targets[0].text == "sat"


def test_there_is_no_next_sentence(case: Case) -> None:
    """A head that the family does not have is refused by name."""
    with pytest.raises(BertError, match="next_sentence"):
        case.client.score_next_sentence("the cat sat", ["on the mat"])
