"""Prints constraints for pip: each requirement of client and server at its floor, each test tool as CI pins it."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

# Name and lowest version; what follows the version, such as a marker, does not matter here.
FLOOR = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([0-9.]+)")
OURS = {"bertapi", "bertserve", "bertbench"}


def main() -> None:
    client, server = (tomllib.loads(Path(name, "pyproject.toml").read_text()) for name in ("proto", "."))
    extras = server["project"]["optional-dependencies"]
    required = [*client["project"]["dependencies"], *server["project"]["dependencies"], *extras["otel"]]
    lowest = floors_of(required)
    pins = dict(line.split("==") for line in Path("constraints.txt").read_text().splitlines() if "==" in line)
    tools = [name for requirement in extras["dev"] if (name := name_of(requirement)) not in lowest]
    pinned = {name: version for name, version in pins.items() if name_of(name) in tools}
    for name, version in (lowest | pinned).items():
        sys.stdout.write(f"{name}=={version}\n")


def floors_of(requirements: Iterable[str]) -> dict[str, str]:
    """Name → lowest version. Raises ValueError for a requirement of others that names no floor."""
    floors = {}
    for requirement in requirements:
        found = FLOOR.match(requirement)
        if found is None:
            raise ValueError(f"pyproject.toml: {requirement!r} has no floor; write it as name>=version")
        if found[1] not in OURS:
            floors[name_of(found[1])] = found[2]
    return floors


def name_of(requirement: str) -> str:
    """The name that a requirement begins with, in pip's canonical form."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~;\s]", requirement, maxsplit=1)[0]).lower()


main()
