"""Paths and names of any bytes, in any locale: all files are found, and names stay readable."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from bertapi.client import BertClient
from bertserve.settings import SettingsError, named_bundles, read_settings
from servers import PLAIN, PRETRAINING, RunningServer, command, running_server, start_refused

# Python 3.7 and later read paths as UTF-8 in the C locale, unless they are told not to.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}

# Latin-1, as old file systems hold it.
UNDECODABLE = os.fsdecode(b"mod\xe8le")


def served_names(server: RunningServer, token: str | None = None) -> list[str]:
    """The names that the API tells; each model is called once by it."""
    with BertClient(server.target, token=token) as client:
        names = [model.name for model in client.list_models()]
        assert all(client.embed(["cat"], model=name) for name in names)
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=30) as page:
        text = page.read().decode()
    assert all(f'bertserve_tokens_total{{model="{name}"}}' in text for name in names)
    return names


def test_an_ascii_locale_reads_every_name(tmp_path: Path) -> None:
    """From flags and from TOML, whose text is UTF-8 everywhere: in answers, metrics and the log."""
    shutil.copytree(PLAIN, tmp_path / "modèle")
    shutil.copytree(PRETRAINING, tmp_path / "東京")
    odd = tmp_path / UNDECODABLE
    odd.mkdir()
    bundles = [str(tmp_path / "modèle"), f"ü={tmp_path / '東京'}"]
    (odd / "bertserve.toml").write_text(f"bundles = {bundles}\n", encoding="utf-8")
    (odd / "tokens").write_text("0123456789abcdef\n")
    arguments = ["--config", odd / "bertserve.toml", "--tokens", odd / "tokens"]
    with running_server(*arguments, environment=ASCII) as server:
        assert served_names(server, token="0123456789abcdef") == ["modèle", "ü"]
        assert server.stop() == 0
    assert [name for name in ("modèle", "ü") if f'"model": "{name}"' in "".join(server.log)] == ["modèle", "ü"]


@pytest.mark.parametrize("locale", [ASCII, {}], ids=["ASCII", "UTF-8"])
def test_a_bundle_is_served_from_a_directory_of_any_bytes(tmp_path: Path, locale: dict[str, str]) -> None:
    """Under a name that is given, here by the environment."""
    shutil.copytree(PLAIN, tmp_path / UNDECODABLE)
    with running_server(environment={**locale, "BERTSERVE_BUNDLES": f"plain={tmp_path / UNDECODABLE}"}) as server:
        assert served_names(server) == ["plain"]
        assert server.stop() == 0


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    """No message of the API can hold it; the line shows its bytes and says what to do."""
    status, line = start_refused(tmp_path / UNDECODABLE)
    shown = f"{tmp_path}/mod\\xe8le"
    assert (status, line) == (
        2, f"bertserve: bundle name mod\\xe8le is not UTF-8; give it another, as in name={shown}"
    )  # fmt: skip
    with pytest.raises(SettingsError, match="not UTF-8"):
        named_bundles(read_settings([f"{UNDECODABLE}=/x"]))


def test_a_missing_directory_is_shown_by_its_bytes(tmp_path: Path) -> None:
    """Whatever the locale."""
    status, line = start_refused(f"plain={tmp_path / UNDECODABLE}")
    assert status == 1
    assert f"{tmp_path}/mod\\xe8le/manifest.json" in line


def test_help_is_written_in_an_ascii_locale() -> None:
    """Its text holds letters that ASCII lacks."""
    ended = subprocess.run(command("--help"), capture_output=True, env={**os.environ, **ASCII}, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "×" in ended.stdout.decode()
