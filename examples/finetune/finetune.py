"""Fine-tune a BERT checkpoint on labelled texts or text pairs.

    python examples/finetune/finetune.py CHECKPOINT train.tsv --dev dev.tsv -o DIR
    bertexport DIR -o BUNDLE && bertserve BUNDLE && bertcall classify "a charming film"

Every parameter learns, unless --freeze-layers or --gradual says otherwise. DIR is a checkpoint in Hugging Face form
whose config names the labels.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from freezing import Freezing
from labelled import Columns, Example, LabelledFileError, draw_examples, name_labels, read_examples
from rich.console import Console
from rich.progress import Progress
from training import EpochFigures, FineTuning, Recipe, majority_share
from transformers.utils import logging

DEV_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learned: examples of both kinds, and the labels' names by label."""

    training: list[Example]
    dev: list[Example]
    labels: dict[str, str]


def read_task(options: argparse.Namespace) -> Task:
    """Without a dev file, every tenth training example is held out."""
    columns = Columns(text=options.text_column, pair=options.pair_column, label=options.label_column)
    training = draw_examples(read_examples(options.train, columns), options.limit, options.seed)
    labels = name_labels(training, options.label_names)
    if options.dev is not None:
        return Task(training, read_examples(options.dev, columns), labels)
    held_out = max(1, round(DEV_SHARE * len(training)))
    return Task(training[held_out:], training[:held_out], labels)


def fine_tune(
    checkpoint: Path, task: Task, recipe: Recipe, output: Path | None, report: Callable[[str], None]
) -> list[EpochFigures]:
    """Train, report a line per epoch, and save to `output`."""
    tuning = FineTuning(checkpoint, task.labels, task.training, recipe)
    dev = tuning.encode(task.dev)
    report(f"{len(task.training)} training examples, {len(task.dev)} to measure on; majority {majority_share(dev):.1%}")
    if cut := tuning.cut_examples + dev.cut:
        report(f"{cut} of them are cut at {recipe.max_tokens} tokens; see --max-tokens")
    figures = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for _ in range(recipe.epochs):
            figures.append(tuning.train_epoch(dev, progress))
            report(describe(figures[-1]))
    if output is not None:
        tuning.save(output)
    return figures


def describe(figures: EpochFigures) -> str:
    f1 = "" if figures.f1 is None else f"  f1 {figures.f1:.3f}"
    return (
        f"epoch {figures.epoch}: {figures.learning_parameters / 1e6:.2f} M parameters learning  "
        f"loss {figures.loss:.3f}  accuracy {figures.accuracy:.1%}{f1}  {figures.seconds:.0f} s"
    )


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """What `compare.py` has in common with this script."""
    parser.add_argument("checkpoint", type=Path, help="a BERT in Hugging Face form, whatever heads it has")
    parser.add_argument("train", type=Path, help="labelled examples: .tsv or .csv, with a header")
    parser.add_argument("--dev", type=Path, metavar="FILE", help="examples to measure on; else a tenth of TRAIN")
    parser.add_argument("--text-column", metavar="NAME", help="the text, or first text; by default the first column")
    parser.add_argument("--pair-column", metavar="NAME", help="the second text of pairs")
    parser.add_argument("--label-column", metavar="NAME", default="label")
    parser.add_argument("--label-names", nargs="+", metavar="NAME", help="names for the labels, in their sorted order")
    parser.add_argument("--limit", type=int, metavar="N", help="train on so many examples, drawn at random")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--batch-size", type=int, default=Recipe().batch_size)
    parser.add_argument("--learning-rate", type=float, default=Recipe().learning_rate, help="at its peak")
    parser.add_argument("--max-tokens", type=int, default=Recipe().max_tokens, metavar="N", help="of an example")
    parser.add_argument("--seed", type=int, default=Recipe().seed)


def make_recipe(options: argparse.Namespace, freezing: Freezing) -> Recipe:
    return Recipe(
        freezing=freezing,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_tokens=options.max_tokens,
        seed=options.seed,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_task_options(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--freeze-layers", type=int, metavar="N", help="keep the embeddings and the first N layers")
    parser.add_argument("--gradual", action="store_true", help="the head first, then one more layer per epoch")
    parser.add_argument("--json", action="store_true", help="print the figures of all epochs as JSON, at the end")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    freezing = Freezing(freeze_layers=options.freeze_layers, gradual=options.gradual)
    report = Console(stderr=options.json, highlight=False).print
    try:
        task = read_task(options)
        figures = fine_tune(options.checkpoint, task, make_recipe(options, freezing), options.output, report)
    except (LabelledFileError, OSError) as error:
        sys.exit(f"finetune.py: {error}")
    if options.json:
        print(json.dumps([asdict(of_epoch) for of_epoch in figures], indent=2))


if __name__ == "__main__":
    main()
