"""The benchmarks' command line and graphs need the packages of bertbench."""

from __future__ import annotations

from importlib.util import find_spec

# Where it is missing, not even the files can be read.
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
