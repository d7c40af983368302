"""Settings, and what documents say of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bertserve.cores import read_quota, usable_cores
from bertserve.settings import DEMO_BUNDLE, Settings, SettingsError, named_bundles, read_settings

ROOT = Path(__file__).parents[2]


def test_bundles_are_named_by_their_last_path_component() -> None:
    """NAME=DIR overrides it, and order is kept."""
    settings = read_settings(["/models/a/", "other=/models/b"])
    assert named_bundles(settings) == {"a": Path("/models/a/"), "other": Path("/models/b")}
    assert list(named_bundles(settings)) == ["a", "other"]


def test_no_bundle_means_the_demo_model() -> None:
    """It lies inside the package."""
    assert named_bundles(read_settings([])) == {"demo": DEMO_BUNDLE}


@pytest.mark.parametrize("arguments", [["a=/x", "a=/y"], ["/x/a", "/y/a"], ["=/x"]], ids=["given", "derived", "empty"])
def test_names_are_unique_and_not_empty(arguments: list[str]) -> None:
    """The message says what to do."""
    with pytest.raises(SettingsError, match=r"NAME=DIR|name one of them otherwise"):
        named_bundles(read_settings(arguments))


def test_settings_are_frozen() -> None:
    """Made once at start, and the same for as long as the server runs."""
    with pytest.raises(ValueError, match="frozen"):
        read_settings([]).port = 1  # type: ignore[misc]


def test_every_setting_says_what_it_means() -> None:
    """No knob without a description that ends in a full stop."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_readme_lists_every_setting_with_its_default() -> None:
    """The README's table is the code's."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        if name == "bundles":
            continue
        default = f"`{field.default}`" if field.default != "" else "as `--host`"
        row = f"| `--{name.replace('_', '-')}` | {default} | {field.description} |"
        assert row in readme


QUOTAS = {
    "version 2": ({"cpu.max": "150000 100000"}, 1.5),
    "version 2 without a quota": ({"cpu.max": "max 100000"}, None),
    "version 1": ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
    "version 1 without a quota": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "none": ({}, None),
    "unreadable": ({"cpu.max": "what is this"}, None),
}


@pytest.mark.parametrize(("files", "expected"), QUOTAS.values(), ids=QUOTAS.keys())
def test_quota_is_read_from_either_cgroup(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    """As cores; None where nothing limits."""
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n", encoding="ascii")
    assert read_quota(tmp_path) == expected


def test_a_fraction_of_a_core_is_one_core(tmp_path: Path) -> None:
    """Half a core still runs one lane."""
    (tmp_path / "cpu.max").write_text("50000 100000\n", encoding="ascii")
    assert usable_cores(tmp_path) == 1
