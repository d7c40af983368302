"""Fine-tuning tiny checkpoints on labelled files: what is read, what learns, what is written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint
from compare import ways
from finetune import Task, fine_tune
from freezing import Freezing
from labelled import Columns, Example, LabelledFileError, draw_batches, draw_examples, name_labels, read_examples
from make_pairs import write_pairs
from rich.progress import Progress
from training import FineTuning, Recipe, f1_score, majority_share, rate_factor
from transformers import BertConfig, BertForSequenceClassification, BertModel

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("one_thread")]

RunExample = Callable[..., subprocess.CompletedProcess[str]]

TEXTS = [
    Example("a good day", None, "1"),
    Example("bad rain and cold wind", None, "0"),
    Example("what good light", None, "1"),
    Example("a bad night", None, "0"),
]

REFUSED = {
    "a column that is not there": ("sentence\tsense\na\t1\n", "no column 'label'; its header has sentence, sense"),
    "a row without its label": ("sentence\tlabel\na\t1\nb\t\n", "row 2 after the header lacks"),
    "a row that ends early": ("sentence\tlabel\na\t1\nb\n", "row 2 after the header lacks"),
    "no row": ("sentence\tlabel\n", "no row after the header"),
    "nothing": ("", "its header has nothing"),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A pretrained BERT of three layers, both heads in it."""
    return write_checkpoint(tmp_path / "checkpoint", num_hidden_layers=3)


def train(checkpoint: Path, freezing: Freezing, epochs: int, output: Path) -> None:
    task = Task(TEXTS, TEXTS, {"0": "bad", "1": "good"})
    recipe = Recipe(freezing=freezing, epochs=epochs, batch_size=2, learning_rate=1e-2)
    fine_tune(checkpoint, task, recipe, output, report=lambda _: None)


def changed_parts(before: Path, after: Path) -> set[str]:
    """Parts of the encoder with any parameter that is not what it was."""
    old, new = (BertModel.from_pretrained(path).state_dict() for path in (before, after))
    names = {name for name in old if not torch.equal(old[name], new[name])}
    return {name.split(".")[2] if name.startswith("encoder") else name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("freezing", "changed"),
    [
        (Freezing(), {"embeddings", "0", "1", "2", "pooler"}),
        (Freezing(freeze_layers=2), {"2", "pooler"}),
        (Freezing(gradual=True), {"2", "pooler"}),
    ],
    ids=["full", "two layers frozen", "gradual after two epochs"],
)
def test_frozen_parameters_stay_what_they_were(
    checkpoint: Path, tmp_path: Path, freezing: Freezing, changed: set[str]
) -> None:
    """Two epochs change every unfrozen part of the encoder, and leave the others bit for bit."""
    train(checkpoint, freezing, epochs=2, output=tmp_path / "tuned")
    assert changed_parts(checkpoint, tmp_path / "tuned") == changed


def test_comparison_freezes_half_of_the_layers() -> None:
    """Of twelve layers, six."""
    full, half, gradual = ways(12).values()
    assert (full, half, gradual) == (Freezing(), Freezing(freeze_layers=6), Freezing(gradual=True))


def test_label_names_are_in_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    """By index in config.json, both ways, in the order of the head; the tokenizer lies beside it."""
    train(checkpoint, Freezing(), epochs=1, output=tmp_path / "tuned")
    config = BertConfig.from_pretrained(tmp_path / "tuned")
    assert config.id2label == {0: "bad", 1: "good"}
    assert config.label2id == {"bad": 0, "good": 1}
    assert BertForSequenceClassification.from_pretrained(tmp_path / "tuned").classifier.out_features == 2
    assert (tmp_path / "tuned" / "tokenizer.json").exists()


def test_pairs_are_two_segments(checkpoint: Path) -> None:
    """[CLS] first [SEP] second [SEP], as the server will read them."""
    tuning = FineTuning(checkpoint, {"a": "a", "b": "b"}, [Example("good day", "cold night", "a")], Recipe())
    encoded = tuning.encode([Example("good day", "cold night", "a")])
    assert tuning.tokenizer.convert_ids_to_tokens(encoded.input_ids[0]) == [
        *("[CLS]", "good", "day", "[SEP]", "cold", "night", "[SEP]"),
    ]
    assert encoded.token_type_ids == [[0, 0, 0, 0, 1, 1, 1]]


def test_cut_texts_are_reported(checkpoint: Path) -> None:
    """Texts beyond --max-tokens are counted in both files, and said."""
    lines: list[str] = []
    task = Task(TEXTS, TEXTS, {"0": "0", "1": "1"})
    fine_tune(checkpoint, task, Recipe(epochs=1, max_tokens=6), None, report=lines.append)
    assert "4 of them are cut at 6 tokens; see --max-tokens" in lines


def test_same_seed_same_figures(checkpoint: Path) -> None:
    """Loss and accuracy of each epoch repeat."""
    task = Task(TEXTS, TEXTS, {"0": "0", "1": "1"})
    first, second = (fine_tune(checkpoint, task, Recipe(epochs=2), None, report=lambda _: None) for _ in "ab")
    assert [(f.loss, f.accuracy) for f in first] == [(f.loss, f.accuracy) for f in second]


def test_dev_label_that_training_lacks_is_refused(checkpoint: Path) -> None:
    """The message names it."""
    task = Task(TEXTS, [Example("day", None, "2")], {"0": "0", "1": "1"})
    with pytest.raises(LabelledFileError, match="no training example has: 2"):
        fine_tune(checkpoint, task, Recipe(), None, report=lambda _: None)


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_files_that_cannot_be_learned_from(tmp_path: Path, content: str, reason: str) -> None:
    """Each is refused with where and why."""
    path = tmp_path / "train.tsv"
    path.write_text(content)
    with pytest.raises(LabelledFileError, match=reason):
        read_examples(path, Columns(text="sentence"))


def test_tsv_is_read_unquoted_and_csv_quoted(tmp_path: Path) -> None:
    """A lone quotation mark in a TSV is a quotation mark; a CSV's quotes hold commas."""
    (tmp_path / "a.tsv").write_text('sentence\tlabel\n" so , fine\t1\n')
    (tmp_path / "a.csv").write_text('id,first,second,label\n7,"so, fine",good,1\n')
    assert read_examples(tmp_path / "a.tsv", Columns()) == [Example('" so , fine', None, "1")]
    columns = Columns(text="first", pair="second")
    assert read_examples(tmp_path / "a.csv", columns) == [Example("so, fine", "good", "1")]


def test_label_names_go_by_sorted_label() -> None:
    """One name a label, or none at all."""
    assert name_labels(TEXTS, None) == {"0": "0", "1": "1"}
    assert name_labels(TEXTS, ["bad", "good"]) == {"0": "bad", "1": "good"}
    with pytest.raises(LabelledFileError, match="3 names for 2 labels"):
        name_labels(TEXTS, ["a", "b", "c"])
    with pytest.raises(LabelledFileError, match="only one label"):
        name_labels(TEXTS[:1], None)


def test_batches_hold_every_example_once() -> None:
    """In another order each time."""
    rng = np.random.default_rng(0)
    first, second = ([index for batch in draw_batches([3] * 103, 8, rng) for index in batch] for _ in "ab")
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second


def test_limit_draws_at_random() -> None:
    """So many examples, the same ones for a seed; all of them without a limit."""
    examples = [Example(str(number), None, "x") for number in range(50)]
    assert draw_examples(examples, 10, seed=1) == draw_examples(examples, 10, seed=1)
    assert {e.text for e in draw_examples(examples, 10, seed=1)} != {str(number) for number in range(10)}
    assert len(draw_examples(examples, None, seed=1)) == 50


def test_figures_of_known_predictions(checkpoint: Path) -> None:
    """Two right of three named, three to be found: precision 2/3, recall 2/3. Majority: three of five."""
    predicted, labels = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    assert f1_score(predicted, labels) == pytest.approx(2 / 3)
    assert f1_score(np.zeros(3), np.zeros(3)) == 0.0
    tuning = FineTuning(checkpoint, {"0": "0", "1": "1"}, TEXTS, Recipe())
    assert majority_share(tuning.encode([*TEXTS, TEXTS[0]])) == pytest.approx(3 / 5)


def test_rate_rises_and_falls() -> None:
    """Linear to the peak after a tenth, linear to zero."""
    assert [rate_factor(progress) for progress in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_gradual_unfreezing_by_epoch(checkpoint: Path) -> None:
    """More parameters learn with every epoch, until all do."""
    recipe = Recipe(freezing=Freezing(gradual=True), epochs=5)
    tuning = FineTuning(checkpoint, {"0": "0", "1": "1"}, TEXTS, recipe)
    dev = tuning.encode(TEXTS)
    with Progress(disable=True) as progress:
        learning = [tuning.train_epoch(dev, progress).learning_parameters for _ in range(5)]
    assert learning == sorted(set(learning))
    assert learning[-1] == sum(parameter.numel() for parameter in tuning.model.parameters())


def test_pairs_are_made_of_scores(tmp_path: Path) -> None:
    """From 4 up they agree, up to 1 they are unrelated, between they are left out; quotes and commas survive."""
    source, target = tmp_path / "sts.csv", tmp_path / "pairs.csv"
    rows = [("5.000", 'He said "go".', "He said go, now."), ("4.0", "a", "b"), ("1.0", "c", "d"), ("2.5", "e", "f")]
    source.write_text("".join(f"genre\tfile\tyear\t7\t{score}\t{one}\t{two}\n" for score, one, two in rows))
    assert write_pairs(source, target) == {"agree": 2, "unrelated": 1, None: 1}
    assert read_examples(target, Columns(pair="second")) == [
        Example('He said "go".', "He said go, now.", "agree"),
        Example("a", "b", "agree"),
        Example("c", "d", "unrelated"),
    ]


def test_real_benchmark_gives_both_labels(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Every line of STS-B's training file is read."""
    counts = write_pairs(shared_data("stsb/sts-train.csv"), tmp_path / "pairs.csv")
    assert counts.total() == 5749
    assert min(counts["agree"], counts["unrelated"]) > 1000


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    path = tmp_path / "train.tsv"
    path.write_text("sentence\tlabel\n" + "".join(f"{e.text}\t{e.label}\n" for e in TEXTS * 5))
    return path


@pytest.mark.slow
def test_script_prints_figures_and_saves(
    run_example: RunExample, checkpoint: Path, train_file: Path, tmp_path: Path
) -> None:
    """JSON on stdout alone; a tenth is held out where no dev file is given."""
    names = ("--label-names", "bad", "good")
    run = run_example(
        "finetune/finetune.py", checkpoint, train_file, "-o", tmp_path / "out", "--epochs", "2", "--json", *names
    )
    assert [epoch["epoch"] for epoch in json.loads(run.stdout)] == [1, 2]
    assert "18 training examples, 2 to measure on" in run.stderr
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}


@pytest.mark.slow
def test_comparison_shows_three_ways(run_example: RunExample, checkpoint: Path, train_file: Path) -> None:
    """A row each, of one epoch here."""
    run = run_example("finetune/compare.py", checkpoint, train_file, "--epochs", "1", "--json")
    results = json.loads(run.stdout)
    assert list(results) == ["full", "embeddings and 1 of 3 layers frozen", "gradual"]
    assert all(len(epochs) == 1 for epochs in results.values())


@pytest.mark.slow
def test_script_refuses_in_one_line(run_example: RunExample, checkpoint: Path, tmp_path: Path) -> None:
    """A file that is not there: its name, and a failing exit status."""
    run = run_example("finetune/finetune.py", checkpoint, tmp_path / "missing.tsv", "-o", tmp_path / "out", check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("finetune.py: ")
    assert "missing.tsv" in run.stderr
    assert not (tmp_path / "out").exists()
