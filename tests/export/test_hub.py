"""MODEL as a hub id: real downloads, from a small hub on loopback, and every way in which they fail.

All but the interrupted downloads and `test_a_refusal_of_the_hub_is_the_only_line` export in the tests' own process.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bertexport.source.location import SIDE_FILES
from checkpoints import write_checkpoint
from huggingface_hub.utils import filter_repo_objects

from .conftest import NO_HUB, Export, RunCommand, command_environment
from .hub import COMMIT, serve_hub

pytestmark = pytest.mark.export

MODEL = "someone/tiny-bert"
ReachHub = Callable[[str], None]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Two models: one in safetensors and pickle, one in pickle alone; both with files that no export needs."""
    folder = write_checkpoint(tmp_path / "hub" / "both")
    write_checkpoint(folder, form="pickle")
    (folder / "onnx").mkdir()
    for unneeded in ("tf_model.h5", "README.md", "onnx/model.safetensors"):
        (folder / unneeded).write_bytes(b"unneeded")
    pickle = write_checkpoint(tmp_path / "hub" / "pickle", form="pickle")
    with serve_hub({MODEL: folder, "old-bert": pickle}) as served:
        yield served


def downloaded(requests: list[str]) -> set[str]:
    return {path.split("/resolve/")[1].split("/", 1)[1] for path in requests if "/resolve/" in path}


def test_a_hub_id_is_downloaded_and_exported(hub: tuple[str, list[str]], reach_hub: ReachHub, export: Export) -> None:
    """The bundle names the hub id and the commit; nothing is fetched that the export does not read."""
    endpoint, requests = hub
    reach_hub(endpoint)
    source = export(MODEL).manifest.source
    assert (source.model, source.revision) == (MODEL, COMMIT)
    assert downloaded(requests) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_whatever_may_change_the_tokens_or_the_vector_is_downloaded() -> None:
    """Tokens added to an old vocabulary, the pooling wherever modules.json has it, lower-casing, prompts, adapters."""
    names = [
        "vocab.txt",
        "added_tokens.json",
        "modules.json",
        "2_Pooling/config.json",
        "2_Normalize/config.json",
        "0_Transformer/sentence_bert_config.json",
        "sentence_xlm-roberta_config.json",
        "config_sentence_transformers.json",
        "adapter_config.json",
    ]
    assert list(filter_repo_objects(names, allow_patterns=list(SIDE_FILES))) == names


def test_a_pickle_is_downloaded_where_there_is_nothing_else(
    hub: tuple[str, list[str]], reach_hub: ReachHub, export: Export
) -> None:
    """Old repositories hold pytorch_model.bin alone."""
    endpoint, requests = hub
    reach_hub(endpoint)
    assert export("old-bert").manifest.source.model == "old-bert"
    assert "pytorch_model.bin" in downloaded(requests)


def test_a_download_is_used_again_when_the_hub_is_down(
    hub: tuple[str, list[str]], reach_hub: ReachHub, tmp_path: Path, export: Export
) -> None:
    """What was fetched once needs no network."""
    endpoint, _ = hub
    reach_hub(endpoint)
    first = export(MODEL, tmp_path / "first")
    reach_hub(NO_HUB)
    assert export(MODEL, tmp_path / "second").manifest.bundle_id == first.manifest.bundle_id


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (MODEL, ("--revision", "v9"), f"{MODEL}: the hub has no revision 'v9' of it"),
        ("someone/else", (), "someone/else: neither a directory here nor a model on the hub that may be read"),
    ],
    ids=["unknown revision", "unknown model"],
)
def test_what_the_hub_lacks_is_refused(
    model: str,
    options: tuple[str, ...],
    message: str,
    hub: tuple[str, list[str]],
    reach_hub: ReachHub,
    tmp_path: Path,
    call_command: RunCommand,
) -> None:
    """One line says whether the model or its revision is missing."""
    reach_hub(hub[0])
    result = call_command(model, "-o", tmp_path / "bundle", *options)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"bertexport: {message}"
    assert not (tmp_path / "bundle").exists()


REFUSED_LINE = f"bertexport: {MODEL}: the hub answers with status 429, and nothing of it is cached here\n"


def test_a_hub_that_refuses_to_answer_is_refused(reach_hub: ReachHub, tmp_path: Path, call_command: RunCommand) -> None:
    """It is there, and says by its status what is wrong."""
    with serve_hub({}, failing=429) as (endpoint, _):
        reach_hub(endpoint)
        result = call_command(MODEL, "-o", tmp_path / "bundle")
    assert (result.returncode, result.stderr) == (1, REFUSED_LINE)


@pytest.mark.slow
def test_a_refusal_of_the_hub_is_the_only_line(tmp_path: Path, run_command: RunCommand) -> None:
    """The hub's client, which writes to its process's own stderr, adds no line."""
    with serve_hub({}, failing=429) as (endpoint, _):
        result = run_command(MODEL, "-o", tmp_path / "bundle", HF_ENDPOINT=endpoint)
    assert (result.returncode, result.stderr) == (1, REFUSED_LINE)


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM], ids=["SIGINT", "SIGTERM"]
)
def test_a_download_is_interrupted_at_once(number: signal.Signals, tmp_path: Path) -> None:
    """However long the hub takes: one line, and neither the bundle nor a folder for it."""
    folder = write_checkpoint(tmp_path / "hub" / "slow")
    with serve_hub({MODEL: folder}, stalling="model.safetensors") as (endpoint, requests):
        process = subprocess.Popen(
            [sys.executable, "-m", "bertexport", MODEL, "-o", tmp_path / "out" / "bundle"],
            env=command_environment(tmp_path / "home", HF_ENDPOINT=endpoint),
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            while not any("/resolve/" in path and path.endswith("model.safetensors") for path in requests):
                time.sleep(0.01)
                assert process.poll() is None
            process.send_signal(number)
            _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "bertexport: interrupted; nothing was written\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("reach_hub")
def test_a_hub_that_is_down_is_refused(tmp_path: Path, call_command: RunCommand) -> None:
    """Nothing cached and nobody there: one line."""
    result = call_command(MODEL, "-o", tmp_path / "bundle")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"bertexport: {MODEL}: the hub cannot be reached, and nothing of it is cached here"
    )
    assert not (tmp_path / "bundle").exists()


def test_a_file_that_vanishes_from_the_hub_is_refused(
    hub: tuple[str, list[str]], reach_hub: ReachHub, tmp_path: Path, call_command: RunCommand
) -> None:
    """A repository without weights ends as a folder without weights does."""
    shutil.rmtree(tmp_path / "hub" / "pickle")
    reach_hub(hub[0])
    result = call_command("old-bert", "-o", tmp_path / "bundle")
    assert result.returncode == 1
    assert "config.json is missing" in result.stderr.splitlines()[-1]
