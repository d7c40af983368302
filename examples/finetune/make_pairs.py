"""Labelled pairs from the STS benchmark: do two sentences agree, or have they nothing to do with each other?

    python examples/finetune/make_pairs.py sts-train.csv -o pairs-train.csv

STS-B scores how alike two sentences are, from 0 to 5. From AGREE (4: the same but for details) up, a pair is labelled
`agree`; up to UNRELATED (1: at best on the same topic) it is `unrelated`; those between are left out.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

AGREE = 4.0
UNRELATED = 1.0
# Tab-separated without header or quotes; some lines name their sources in further fields.
SCORE, FIRST, SECOND = 4, 5, 6


def read_scored(path: Path) -> Iterator[tuple[str, str, float]]:
    """First sentence, second sentence, score."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            yield fields[FIRST], fields[SECOND], float(fields[SCORE])


def label_of(score: float) -> str | None:
    if score >= AGREE:
        return "agree"
    return "unrelated" if score <= UNRELATED else None


def write_pairs(source: Path, target: Path) -> Counter[str | None]:
    """Write the pairs with a label; return how many of each label there are, None for those left out."""
    counts: Counter[str | None] = Counter()
    with target.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["first", "second", "label"])
        for first, second, score in read_scored(source):
            label = label_of(score)
            counts[label] += 1
            if label is not None:
                rows.writerow([first, second, label])
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a file of the STS benchmark, such as sts-train.csv")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    counts = write_pairs(options.source, options.output)
    print(f"{counts['agree']} agree, {counts['unrelated']} unrelated, {counts[None]} left out")


if __name__ == "__main__":
    main()
