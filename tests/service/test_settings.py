"""Settings, and what documents say of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bertserve.settings import DEMO_BUNDLE, Settings, SettingsError, named_bundles, read_settings
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.lists(st.text(min_size=1).filter(lambda text: not text.startswith("-")), min_size=1))
def test_bundles_are_taken_as_written(arguments: list[str]) -> None:
    """Commas, brackets and quotes included: paths may hold them."""
    assert read_settings(["--port", "1", *arguments]).bundles == arguments


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bertserve.toml"
    path.write_text('bundles = ["/a,b", "c=/d"]\nbatch-tokens = 9\nmax_top_k = 8\nmax-inputs = 7\n')
    return path


def test_flags_beat_environment_beats_file_beats_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One order for every setting."""
    monkeypatch.setenv("BERTSERVE_MAX_TOP_K", "80")
    monkeypatch.setenv("BERTSERVE_MAX_INPUTS", "70")
    settings = read_settings(["--config", str(file), "--max-inputs", "700"])
    assert (settings.max_inputs, settings.max_top_k, settings.batch_tokens, settings.port) == (700, 80, 9, 50051)
    assert named_bundles(settings) == {"a,b": Path("/a,b"), "c": Path("/d")}


def test_file_may_be_named_by_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every other setting; bundles of a flag replace those of the file."""
    monkeypatch.setenv("BERTSERVE_CONFIG", str(file))
    assert read_settings([]).batch_tokens == 9
    assert read_settings(["/x"]).bundles == ["/x"]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("prot = 1\nlanse = 2\nport = 3", "prot, lanse"),
        ('config = "other.toml"', "config"),
        ("[port]\nnumber = 1", "--port"),
        ("port = ", "Invalid value"),
        ('port = "http"', "--port"),
    ],
    ids=["unknown", "nested", "table", "no TOML", "no number"],
)
def test_bad_file_is_refused_with_what_is_wrong(tmp_path: Path, content: str, hint: str) -> None:
    """A setting that was meant and not applied would be worse than none."""
    path = tmp_path / "bertserve.toml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=hint):
        read_settings(["--config", str(path)])


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.toml"):
        read_settings(["--config", str(tmp_path / "nothing.toml")])


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
        default = {"": "as `--host`", None: "none", False: "off"}.get(field.default, f"`{field.default}`")
        row = f"| `--{name.replace('_', '-')}` | {default} | {field.description} |"
        assert row in readme


def test_a_file_nested_too_deep_is_refused(tmp_path: Path) -> None:
    """Python's parser gives up on it with an error of its own kind."""
    path = tmp_path / "settings.toml"
    path.write_text("bundles = " + "[" * 100_000, encoding="ascii")
    with pytest.raises(SettingsError, match=r"--config .*settings\.toml"):
        read_settings(["--config", str(path)])


def test_a_bundle_that_links_to_itself_is_refused(tmp_path: Path) -> None:
    """Its name would be that of the place where its links end."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SettingsError, match=r"loop: cannot be found \(its links lead in a circle\)"):
        named_bundles(read_settings([str(tmp_path / "loop")]))


def test_a_bundle_below_a_removed_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means nothing when the working directory is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingsError, match=r"bundle \.: cannot be found \(No such file or directory\)"):
        named_bundles(read_settings(["."]))
