"""Fine-tune three times, and set accuracy beside time: everything, half of the layers frozen, gradual unfreezing.

python examples/finetune/compare.py CHECKPOINT train.tsv --dev dev.tsv
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from finetune import add_task_options, fine_tune, make_recipe, read_task
from freezing import Freezing
from labelled import LabelledFileError
from rich.console import Console
from rich.table import Table
from training import EpochFigures
from transformers import AutoConfig
from transformers.utils import logging


def ways(layer_count: int) -> dict[str, Freezing]:
    half = layer_count // 2
    return {
        "full": Freezing(),
        f"embeddings and {half} of {layer_count} layers frozen": Freezing(freeze_layers=half),
        "gradual": Freezing(gradual=True),
    }


def make_table(results: dict[str, list[EpochFigures]]) -> Table:
    """The last epoch of each way. Learning parameters are those of the last epoch: gradual starts with fewer."""
    table = Table()
    table.add_column("learning")
    for heading in ("parameters", "accuracy", "f1", "seconds"):
        table.add_column(heading, justify="right")
    for name, epochs in results.items():
        last = epochs[-1]
        f1 = "" if last.f1 is None else f"{last.f1:.3f}"
        parameters = f"{last.learning_parameters / 1e6:.2f} M"
        table.add_row(name, parameters, f"{last.accuracy:.1%}", f1, f"{last.seconds:.0f}")
    return table


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_task_options(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="keep the three checkpoints in DIR")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    report = Console(stderr=True, highlight=False).print
    results: dict[str, list[EpochFigures]] = {}
    try:
        task = read_task(options)
        layer_count = AutoConfig.from_pretrained(options.checkpoint, local_files_only=True).num_hidden_layers
        for name, freezing in ways(layer_count).items():
            report(name)
            output = None if options.output is None else options.output / name.split()[0]
            results[name] = fine_tune(options.checkpoint, task, make_recipe(options, freezing), output, report)
    except (LabelledFileError, OSError) as error:
        sys.exit(f"compare.py: {error}")
    if options.json:
        print(json.dumps({name: [asdict(e) for e in epochs] for name, epochs in results.items()}, indent=2))
    else:
        Console().print(make_table(results))


if __name__ == "__main__":
    main()
