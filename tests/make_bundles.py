"""Export the tiny bundles that the server's tests run on, so that these need neither torch nor an export.

    python tests/make_bundles.py

Run it when the bundle's form or the graph changes; `tests/export/test_bundles.py` says when it is due.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

BUNDLES = Path(__file__).parent / "bundles"
# Name of a bundle → what `write_checkpoint` is given for it.
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "pretraining": {"heads": ("masked_lm", "next_sentence")},
    "classifier": {"heads": ("sequence_classification",)},
    "plain": {"heads": ()},
    "tagger": {"heads": ("token_classification",), "labels": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")},
}


def main() -> None:
    """Write every bundle, replacing what is there."""
    sys.path.insert(0, str(Path(__file__).parent))
    from bertexport.__main__ import main as export
    from checkpoints import write_checkpoint

    with tempfile.TemporaryDirectory() as directory:
        for name, options in CHECKPOINTS.items():
            checkpoint = write_checkpoint(Path(directory) / name, **options)
            sys.argv = ["bertexport", str(checkpoint), "-o", str(BUNDLES / name), "--force"]
            try:
                export()
            except SystemExit as end:
                if end.code:
                    raise


if __name__ == "__main__":
    main()
