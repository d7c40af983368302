"""Prints the three longest files and functions of what git tracks, so that growth is seen at every check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SHOWN = 3


def main() -> None:
    paths = [path for path in tracked_python_files() if "_pb2" not in path.name]
    files = [(len(path.read_text(encoding="utf-8").splitlines()), str(path)) for path in paths]
    functions = [function for path in paths for function in measure_functions(path)]
    for title, measured in (("files", files), ("functions", functions)):
        for line_count, name in sorted(measured, reverse=True)[:SHOWN]:
            sys.stdout.write(f"longest {title:<10} {line_count:>4}  {name}\n")


def tracked_python_files() -> Iterator[Path]:
    """Python files that git tracks or would track: not the environments, not what is ignored."""
    # The caller may not own the clone, which git otherwise refuses to read.
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 (fixed words)
    return (path for name in listing.splitlines() if (path := Path(name)).is_file())


def measure_functions(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.lineno} {node.name}"


main()
