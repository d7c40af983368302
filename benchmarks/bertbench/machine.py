"""What a figure was measured on: it means nothing without."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bertserve.process.cores import usable_cores

# Those that decide which GEMM kernels run.
TELLING_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
TELLING_PACKAGES = ("onnxruntime", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """cores: those that this process may use. flags: instruction sets. versions: package → version."""

    processor: str
    cores: int
    flags: tuple[str, ...]
    python: str
    versions: dict[str, str]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.processor}, {self.cores} cores, {' '.join(self.flags)}; {versions}"


def describe_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """This machine, and the libraries that compute."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    name = re.search(r"^model name\s*: (.*)$", text, flags=re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", text, flags=re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return Machine(
        processor=name[1] if name else platform.machine(),
        cores=usable_cores(),
        flags=tuple(flag for flag in TELLING_FLAGS if flag in present),
        python=platform.python_version(),
        versions={package: number for package in TELLING_PACKAGES if (number := _version(package))},
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
