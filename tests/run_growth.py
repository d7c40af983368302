"""Print by how many MiB a process grows at most while a graph runs one text.

Arguments: the graph's folder, the text's tokens, the layer wanted.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from bertserve.bundle import GRAPH_DATA_NAME, GRAPH_NAME
from bertserve.engine.items import Item, Wanted
from bertserve.engine.opening import open_engine


def peak_mib() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024  # type: ignore[index]


folder, tokens, layer = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
# The graph alone: a test need not export a bundle for it.
bundle: Any = SimpleNamespace(
    graph_path=folder / GRAPH_NAME, graph_data_path=folder / GRAPH_DATA_NAME, model=SimpleNamespace(position_offset=0)
)
engine = open_engine(bundle, threads=1)
before = peak_mib()
ids, segments = np.full(tokens, 7), np.zeros(tokens, np.int64)
engine.run_items([Item(input_ids=ids, token_type_ids=segments, wanted=Wanted(layers=(layer,)))])
print(peak_mib() - before)
