"""What no file of the project may hold: it must work anywhere, from anybody's package index."""

from __future__ import annotations

import re

import pytest

# Spelled in parts, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a path of some machine": r"(?<![\w.-])/(?:" + "|".join(["root", "home", "work", "Users", "farm"]) + r")/\w",
    "the address of a package index": r"https?://[^\s)\"'`]+/(?:" + "|".join(["simple", "packages", "dists"]) + r")\b",
    "a flag that names an index": r"--(?:extra-)?" + "index" + "-url",
    "the host of a registry": r"https?://(?:registry|download)\.",
}


@pytest.mark.parametrize("pattern", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_no_tracked_file_holds(tracked_texts: dict[str, str], pattern: str) -> None:
    """Neither machine paths nor index addresses stand in any tracked text."""
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in tracked_texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert not found


def test_shell_scripts_stop_at_their_first_failure(tracked_texts: dict[str, str]) -> None:
    """A failed command, a failed part of a pipe, an unset variable: each ends the script."""
    scripts = {name: text for name, text in tracked_texts.items() if text.startswith("#!/usr/bin/env bash")}
    assert ".ci/run" in scripts
    assert not [name for name, text in scripts.items() if "\nset -euo pipefail\n" not in text]
