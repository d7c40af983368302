"""Export the tiny bundles that the server's tests run on, so that these need neither torch nor an export.

    python tests/make_bundles.py

Run it when the bundle's form or the graph changes; `tests/export/test_bundles.py` says when it is due.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

BUNDLES = Path(__file__).parent / "bundles"
HEADS = {"pretraining": ("masked_lm", "next_sentence"), "classifier": ("sequence_classification",), "plain": ()}


def main() -> None:
    """Write every bundle, replacing what is there."""
    sys.path.insert(0, str(Path(__file__).parent))
    from bertexport.__main__ import main as export
    from checkpoints import write_checkpoint

    with tempfile.TemporaryDirectory() as directory:
        for name, heads in HEADS.items():
            checkpoint = write_checkpoint(Path(directory) / name, heads)
            sys.argv = ["bertexport", str(checkpoint), "-o", str(BUNDLES / name), "--force"]
            try:
                export()
            except SystemExit as end:
                if end.code:
                    raise


if __name__ == "__main__":
    main()
