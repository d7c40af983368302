"""How a session is opened: int8 products are right on every processor."""

from __future__ import annotations

from pathlib import Path

import pytest
from bertserve.engine.ort.session import overflows, read_processor_flags, session_options

PRECISE = "session.x64quantprecision"
# What processors say of themselves, shortened.
ZEN_2 = "fpu sse4_2 avx avx2 fma"
SKYLAKE_SERVER = "fpu avx avx2 fma avx512f avx512bw"
CASCADE_LAKE = "fpu avx avx2 fma avx512f avx512bw avx512_vnni"
ALDER_LAKE = "fpu avx avx2 fma avx_vnni"
SAPPHIRE_RAPIDS = "fpu avx avx2 avx512f avx512_vnni amx_int8"
GRAVITON = "fp asimd i8mm bf16"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(ZEN_2, True), (SKYLAKE_SERVER, True), (CASCADE_LAKE, False), (ALDER_LAKE, False), (SAPPHIRE_RAPIDS, False),
     (GRAVITON, False), ("", False)],
)  # fmt: skip
def test_products_overflow_where_nothing_wider_is_there(flags: str, expected: bool) -> None:
    """Only x86 without any of the instructions that add up in 32 bits."""
    assert overflows(frozenset(flags.split())) is expected


def test_exact_products_are_asked_for_there_and_only_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere they cost more than twice the time."""
    info = tmp_path / "cpuinfo"
    for flags, expected in ((ZEN_2, True), (CASCADE_LAKE, False)):
        info.write_text(f"processor\t: 0\nflags\t\t: {flags}\nprocessor\t: 1\nflags\t\t: {flags}\n", encoding="utf-8")
        monkeypatch.setattr("bertserve.engine.ort.session.PROCESSOR_INFO", info)
        assert asks_for_exact_products() is expected


def asks_for_exact_products() -> bool:
    try:
        return bool(session_options(threads=1).get_session_config_entry(PRECISE) == "1")
    except RuntimeError:  # onnxruntime's way of saying that it was not asked
        return False


def test_flags_are_none_where_nothing_says_them(tmp_path: Path) -> None:
    """Neither a missing file nor one without flags is an error: other systems have none."""
    assert read_processor_flags(tmp_path / "missing") == frozenset()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n", encoding="utf-8")
    assert read_processor_flags(tmp_path / "cpuinfo") == frozenset()
