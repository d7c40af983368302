"""Virtual environments to which this one lends what others made. pip finds that and leaves it as it is, so that it has
our own distributions alone to install: minutes are spared, and no index is asked.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import venv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Environment:
    """folder: of the environment. clone: where its commands run. wheels: a folder that pip has in place of an index."""

    folder: Path
    clone: Path
    wheels: Path

    def run(self, command: str, *, asks_index: bool = False) -> subprocess.CompletedProcess[str]:
        """What became of a line that a person would paste into a shell in the clone, with this environment active.

        asks_index: whether pip may ask the caller's index, as it has to for tools that editable builds need.
        """
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.clone,
            env=self._variables(asks_index=asks_index),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def check(self, command: str, *, asks_index: bool = False) -> str:
        """What such a line prints; fails with what it said."""
        completed = self.run(command, asks_index=asks_index)
        assert completed.returncode == 0, f"{command}\n{completed.stdout}\n{completed.stderr}"
        return completed.stdout

    @contextlib.contextmanager
    def server(self) -> Iterator[str]:
        """HOST:PORT of this environment's bertserve with its demo model; killed at the end of the block."""
        command = [self.folder / "bin" / "bertserve", "--port", "0", "--metrics-port", "0"]
        with subprocess.Popen(
            command, env=self._variables(), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                ready = process.stdout.readline()  # type: ignore[union-attr]
                assert ready.startswith("ready: grpc "), process.stderr.read()  # type: ignore[union-attr]
                yield ready.split()[2]
            finally:
                process.kill()

    def _variables(self, *, asks_index: bool = False) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        kept["PATH"] = f"{self.folder / 'bin'}:{kept['PATH']}"
        if asks_index:
            return kept
        told = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # so pip spells "do not isolate"
        }
        return {name: value for name, value in kept.items() if not name.startswith("PIP_")} | told


def create_environment(folder: Path, clone: Path, wheels: Path, lent: Path) -> Environment:
    """An environment that finds what lies in `lent`. pip counts that as installed elsewhere, and so removes nothing."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{lent}\n")
    pip = folder / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m pip "$@"\n')
    pip.chmod(0o755)
    return Environment(folder, clone, wheels)


def lend(folder: Path, leave_out: Collection[str]) -> None:
    """Fills a folder with links to all that is installed here, but for the distributions to leave out."""
    for distribution in metadata.distributions():
        if distribution.name in leave_out:
            continue
        base = Path(str(distribution.locate_file("")))
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if (base / top).exists() and not (folder / top).exists():
                (folder / top).symlink_to(base / top)
