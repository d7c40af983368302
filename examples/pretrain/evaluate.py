"""Measure a BERT on both of its pretraining tasks, as a checkpoint or through a running server.

    python examples/pretrain/evaluate.py --checkpoint DIR   --wikitext wiki.valid.tokens --articles articles.txt.xz
    python examples/pretrain/evaluate.py --target HOST:PORT --wikitext wiki.valid.tokens

Both are asked the same questions, as texts, and give the same figures. 15 % of the tokens are hidden, all of them
behind [MASK], as a user of the server would; [UNK] is never hidden. Beside each figure stands what the unigram baseline
reaches, which names the most frequent tokens of the text it is given, whatever the context.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from corpus import held_out_articles, read_wikitext
from figures import Figures, Sizes, count_masked, draw_questions, measure
from questions import NEVER_ASKED, EvaluationText, tokenize_text
from rich.console import Console
from rich.table import Table
from sources import AsksAsTrained, EvaluationError, Model, Unigram

AS_TRAINED = "masked as in training, runs"


@dataclass(frozen=True, slots=True)
class Report:
    """One text's figures: the model's and the baseline's, by name."""

    text: str
    model: dict[str, Figures]
    unigram: dict[str, Figures]
    discarded: int


def evaluate(name: str, articles: list[list[str]], model: Model, sizes: Sizes, seed: int) -> Report:
    """Draw the questions from `articles`, and put them to the model and to the baseline. Raises EvaluationError."""
    if len(articles) < 2:
        raise EvaluationError(f"{name}: {len(articles)} articles; a pair that is not consecutive takes two")
    text = tokenize_text(articles, model.tokenize)
    questions = draw_questions(text, sizes, seed, model.tokenize)
    unigram = baseline(text)
    report = Report(name, measure(model, questions), measure(unigram, questions), questions.discarded)
    if isinstance(model, AsksAsTrained):
        pairs = questions.next_sentence["runs"][: sizes.masked_pairs]
        guesses, answers = model.fill_as_trained(pairs, seed)
        report.model[AS_TRAINED] = count_masked(guesses, answers)
        report.unigram[AS_TRAINED] = count_masked([unigram.guess(hidden) for hidden in answers], answers)
    return report


def baseline(text: EvaluationText) -> Unigram:
    """Frequencies of the evaluated text itself: no table of frequencies from elsewhere would do better on it."""
    return Unigram(token.text for token in text.tokens if token.text != NEVER_ASKED)


def open_model(options: argparse.Namespace, until_done: ExitStack) -> Model:
    # Only one of the two is needed: the server's install has no torch, a training machine need not have the client.
    if options.checkpoint is not None:
        from checkpoint_source import CheckpointSource

        return CheckpointSource(options.checkpoint)
    from server_source import ServerSource

    return until_done.enter_context(ServerSource(options.target, options.model))


def show(report: Report, console: Console) -> None:
    table = Table(title=report.text, title_justify="left")
    for heading in ("", "figure"):
        table.add_column(heading)
    for heading in ("model", "unigram", "of"):
        table.add_column(heading, justify="right")
    for name, figures in report.model.items():
        for row in rows(figures, report.unigram[name]):
            table.add_row(name, *row)
            name = ""  # noqa: PLW2901 - said once, on the first of its rows
    console.print(table)
    if report.discarded:
        console.print(f"{report.discarded} masked texts left out: the tokenizer reads them otherwise than meant")


def rows(model: Figures, unigram: Figures) -> list[tuple[str, str, str, str]]:
    """Figure, the model's, the baseline's, and of how many masks, pairs or tokens; that count stands last in each."""
    *figures, (unit, count) = asdict(model).items()
    theirs = asdict(unigram)
    shown = []
    for name, value in figures:
        form = ".1f" if "perplexity" in name else ".1%"
        shown.append((name.replace("_", " "), format(value, form), format(theirs[name], form), f"{count} {unit}"))
    return shown


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="DIR", help="a BERT in Hugging Face form, both heads in it")
    source.add_argument("--target", metavar="HOST:PORT", help="a running bertserve")
    parser.add_argument("--model", default="", help="which of the server's models; its first unless said")
    parser.add_argument("--wikitext", type=Path, metavar="FILE", help="a WikiText file, such as wiki.valid.tokens")
    parser.add_argument("--articles", type=Path, metavar="FILE", help="the text of training: its held-out articles")
    parser.add_argument("--masked-pairs", type=int, default=Sizes().masked_pairs, metavar="N")
    parser.add_argument("--next-pairs", type=int, default=Sizes().next_pairs, metavar="N")
    parser.add_argument("--sentences", type=int, default=Sizes().sentences, metavar="N", help="for pseudo-perplexity")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.wikitext is None and options.articles is None:
        parser.error("nothing to evaluate on: give --wikitext, --articles, or both")
    return options


def read_texts(options: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Name of a text → its articles."""
    texts = {}
    if options.wikitext is not None:
        texts[options.wikitext.name] = list(read_wikitext(options.wikitext))
    if options.articles is not None:
        texts[f"held-out articles of {options.articles.name}"] = list(held_out_articles(options.articles))
    return texts


def main() -> None:
    options = parse_options()
    sizes = Sizes(masked_pairs=options.masked_pairs, next_pairs=options.next_pairs, sentences=options.sentences)
    try:
        texts = read_texts(options)
        with ExitStack() as until_done:
            model = open_model(options, until_done)
            reports = [evaluate(name, articles, model, sizes, options.seed) for name, articles in texts.items()]
    except (EvaluationError, OSError) as error:
        sys.exit(f"evaluate.py: {' '.join(str(error).split())}")
    if options.json:
        json.dump([asdict(report) for report in reports], sys.stdout, indent=2)
        print()
        return
    for report in reports:
        show(report, Console())


if __name__ == "__main__":
    main()
