"""The command `bertexport`: steps, closing table, exit codes, and what it leaves on disk.

A process of its own takes seconds to load PyTorch. It is started where the process is what is tested.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from bertexport.errors import ExportError
from bertexport.export import export_checkpoint
from bertexport.interruption import raise_when_interrupted
from bertexport.paths import show
from bertexport.request import ExportRequest
from bertexport.staging import NEW, PREFIX
from bertserve.bundle import read_bundle
from bertserve.engine.golden import check_golden
from bertserve.engine.opening import open_engine
from checkpoints import write_checkpoint
from closed_streams import without_streams

from .conftest import RunCommand, SilentSteps, command_environment, kept_handlers

pytestmark = pytest.mark.export

STEPS = (
    "Find the checkpoint",
    "Read weights and settings",
    "Read the tokenizer",
    "Load the checkpoint in PyTorch",
    "Run it in PyTorch",
    "Write the graph",
    "Load the graph as the server does",
    "Compare with PyTorch",
    "Write golden outputs and report",
    "Check the bundle as the server does",
)


def test_the_installed_command_makes_a_bundle(tmp_path: Path, brief_texts: Path, run_command: RunCommand) -> None:
    """Every step is shown, the table closes, and what lies there passes the server's own checks."""
    checkpoint, output = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "nested[red]" / "bundle"
    result = run_command(checkpoint, "-o", output, "--verify", brief_texts)
    assert result.returncode == 0, result.stderr
    shown = [line.split("(")[0].strip(" ✓") for line in result.stderr.splitlines() if line.startswith("✓")]
    assert tuple(shown) == STEPS
    bundle = read_bundle(output)
    # Folded where the line ends; what looks like rich's markup is part of the name.
    assert "nested[red]/bundle:completeandverified" in "".join(result.stdout.split())
    assert bundle.manifest.bundle_id[:16] in result.stdout
    assert "masked lm top1 agreement" in result.stdout
    check_golden(open_engine(bundle, threads=1))
    assert [path.name for path in output.parent.iterdir()] == ["bundle"]


def test_the_bundle_records_its_source_and_accuracy(full_export: tuple[Path, object]) -> None:
    """The manifest says where the weights came from and how closely the bundle follows PyTorch."""
    manifest = read_bundle(full_export[0]).manifest
    assert (manifest.source.model, manifest.source.revision) == ("checkpoint", "")
    assert manifest.accuracy["hidden_max_relative_difference"] <= 1e-4
    assert manifest.accuracy["masked_lm_top1_agreement"] == 1
    report = json.loads((full_export[0] / "report.json").read_text(encoding="utf-8"))
    assert report["figures"] == manifest.accuracy
    assert {band["longest"] for band in report["bands"]} == {16, 64, 128}


def test_force_replaces_a_bundle(tmp_path: Path, call_command: RunCommand) -> None:
    """Without --force the target is refused; with it, the new bundle takes its place."""
    output = tmp_path / "bundle"
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sat on the mat\n", encoding="utf-8")
    for seed in (0, 1):
        write_checkpoint(tmp_path / f"checkpoint-{seed}", seed=seed)
    assert call_command(tmp_path / "checkpoint-0", "-o", output, "--verify", texts).returncode == 0
    first = read_bundle(output).manifest
    refused = call_command(tmp_path / "checkpoint-1", "-o", output)
    assert refused.returncode == 1
    assert refused.stderr.strip() == f"bertexport: {output} already exists; choose another directory or pass --force"
    assert call_command(tmp_path / "checkpoint-1", "-o", output, "--verify", texts, "--force").returncode == 0
    assert read_bundle(output).manifest.bundle_id != first.bundle_id


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_traceback_is_shown_if_it_is_asked_for(is_asked: bool, tmp_path: Path, call_command: RunCommand) -> None:
    """The line comes last all the same."""
    stderr = call_command(tmp_path, "-o", tmp_path / "bundle", *(["--traceback"] if is_asked else [])).stderr
    assert ("Traceback" in stderr) == is_asked
    assert stderr.splitlines()[-1].startswith(f"bertexport: {tmp_path / 'config.json'} is missing")


def test_a_refusal_is_one_line(tmp_path: Path, call_command: RunCommand) -> None:
    """After the steps that went well comes one line that begins with the command's name; nothing is left."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", model_type="gpt2")
    before = sorted(tmp_path.iterdir())
    result = call_command(checkpoint, "-o", tmp_path / "bundle")
    assert result.returncode == 1
    assert [line for line in result.stderr.splitlines() if not line.startswith("✓")] == [
        "bertexport: the checkpoint's family is 'gpt2' (model_type in config.json); supported: bert, camembert, "
        "distilbert, electra, roberta, xlm-roberta"
    ]
    assert result.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "arguments", [(), ("model",), ("model", "-o", "out", "--precision", "int3")], ids=["nothing", "no -o", "precision"]
)
def test_wrong_arguments_are_explained(arguments: tuple[str, ...], call_command: RunCommand) -> None:
    """Usage errors exit with 2, as commands do."""
    result = call_command(*arguments)
    assert result.returncode == 2
    assert "Usage" in result.stderr


def test_help_names_every_option(run_command: RunCommand) -> None:
    """And comes without waiting for PyTorch."""
    result = run_command("--help", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "transformers", "onnx"}
    for option in ("MODEL", "--output", "--precision", "--revision", "--verify", "--force"):
        assert option in result.stdout


@pytest.mark.parametrize(
    ("setup", "status", "message"),
    [
        (
            "sys.stdout = open('/dev/full', 'w')",
            1,
            "bertexport: the bundle is complete, but standard output cannot be written: No space left on device\n",
        ),
        (
            "import os; r, w = os.pipe(); os.close(r); sys.stdout = open(w, 'w')",
            1,
            "bertexport: the bundle is complete, but standard output cannot be written: Broken pipe\n",
        ),
        ("sys.stdout.reconfigure(encoding='ascii')", 0, ""),
    ],
    ids=["a full disk", "no reader", "ASCII"],
)
def test_a_table_that_cannot_be_written_is_no_traceback(setup: str, status: int, message: str) -> None:
    """The bundle is there by then; what stdout cannot show is not worth more than a line."""
    program = (
        f"import sys; {setup}; from bertexport.command import _show; from rich.table import Table\n_show(Table('…'))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (finished.returncode, finished.stderr) == (status, message)


@pytest.mark.parametrize("kind", ["closed", "full", "no reader"])
def test_steps_go_on_if_nobody_takes_their_lines(kind: str) -> None:
    """Whatever else a library writes to stderr, too."""
    reading, broken = os.pipe()
    os.close(reading)
    program = (
        "import sys\n"
        "from bertserve.process.streams import mend_streams\n"
        "mend_streams()\n"
        "from bertexport.command import Steps\n"
        "from rich.console import Console\n"
        "with Steps(Console(stderr=True)).step('a step'): print('a library', file=sys.stderr, flush=True)\n"
        "print('done')\n"
    )
    with Path("/dev/full").open("wb") as full, os.fdopen(broken, "wb") as unread:
        words = without_streams((2,) if kind == "closed" else (), [sys.executable, "-c", program])
        stderr = unread if kind == "no reader" else full
        finished = subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, check=False, timeout=60)
    assert (finished.returncode, finished.stdout) == (0, b"done\n")


def test_a_table_in_ascii_writes_signs_in_ascii() -> None:
    """What an encoding lacks is written out: a reader must see on which side of a bound a figure should lie."""
    program = (
        "import sys; from bertexport.streams import accept_every_letter\n"
        "sys.stdout.reconfigure(encoding='ascii'); accept_every_letter(); print('\\u2265 0.9 \\xe9 \\udce8')"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (finished.stdout, finished.stderr) == (">= 0.9 \\xe9 \\udce8\n", "")


UNDECODABLE = b"mod\xe8le"


def test_paths_that_are_not_utf8_are_exported(tmp_path: Path, call_command: RunCommand) -> None:
    """Every path that the command takes may be one."""
    export_in_undecodable_folder(tmp_path, call_command)


@pytest.mark.slow
def test_an_ascii_locale_exports_paths_that_are_not_utf8(tmp_path: Path, run_command: RunCommand) -> None:
    """Where only ASCII can be printed, too."""
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    export_in_undecodable_folder(tmp_path, partial(run_command, **ascii_alone))


def export_in_undecodable_folder(tmp_path: Path, run: RunCommand) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + UNDECODABLE))
    write_checkpoint(tmp_path / "checkpoint", ["pooler"])
    folder.mkdir()
    (tmp_path / "checkpoint").rename(folder / folder.name)
    texts = folder / f"{folder.name}.txt"
    texts.write_text("the cat sat\n", encoding="utf-8")
    paths = (folder / folder.name, "-o", folder / "bundle", "--verify", texts, "--calibration", texts)
    result = run(*paths, "--precision", "int8")
    assert result.returncode == 0, result.stderr
    assert "complete and verified" in result.stdout
    assert "mod\\xe8le" in result.stdout
    bundle = read_bundle(folder / "bundle")
    assert bundle.manifest.source.model == "mod\\xe8le"
    assert (folder / "bundle" / "REPORT.md").read_text(encoding="utf-8").startswith("# mod\\xe8le\n")
    assert sorted(path.name for path in folder.iterdir()) == sorted(["bundle", folder.name, texts.name])


def test_an_error_names_an_undecodable_path_readably(tmp_path: Path) -> None:
    """Not by the link under which libraries see it."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + UNDECODABLE))
    folder.mkdir()
    request = ExportRequest(model=str(folder), output=tmp_path / "bundle")
    with pytest.raises(ExportError) as caught:
        export_checkpoint(request, SilentSteps())
    assert show(caught.value).startswith(f"{tmp_path}/mod\\xe8le/config.json is missing")


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_interruption_while_loading_is_one_line(number: signal.Signals) -> None:
    """Before the arguments are even read, the command says the same."""
    program = (
        "import os, sys, bertexport.__main__ as command\n"
        "class Interrupt:\n"
        f"    def find_spec(self, name, *_): name == 'typer' and os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "command.main()\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (finished.returncode, finished.stderr) == (130, "bertexport: interrupted; nothing was written\n")


@pytest.mark.parametrize("limit", [4_000, 100_000], ids=["tokenizer", "graph"])
def test_a_full_disk_is_one_line(limit: int, tmp_path: Path, call_command: RunCommand) -> None:
    """Whichever file is the first that cannot be written, it is not the graph that is at fault."""
    checkpoint, output = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "out" / "bundle"
    with files_end_at(limit):
        finished = call_command(checkpoint, "-o", output)
    assert finished.returncode == 1
    assert "cannot be written" in only_line(finished)
    assert not output.parent.exists()


def test_a_disk_that_is_full_for_the_graph_as_it_runs_is_one_line(
    tmp_path: Path, brief_texts: Path, call_command: RunCommand
) -> None:
    """Where a session turns the word table of an int8 graph round, what it writes is larger than the graph."""
    checkpoint, output = write_checkpoint(tmp_path / "checkpoint", vocab_size=20_000), tmp_path / "out" / "bundle"
    options = ("--precision", "int8", "--allow-accuracy-loss", "--verify", brief_texts, "--calibration", brief_texts)
    assert call_command(checkpoint, "-o", tmp_path / "whole", *options).returncode == 0
    with files_end_at((tmp_path / "whole" / "model.onnx").stat().st_size):
        finished = call_command(checkpoint, "-o", output, *options)
    assert finished.returncode == 1
    assert "cannot write the graph as it runs it" in only_line(finished)
    assert not output.parent.exists()


@contextmanager
def files_end_at(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes within the block."""
    before, writes_no_byte_code = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    # Python 3.11 would cut the byte code short that it keeps beside the sources, too, and say nothing.
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = writes_no_byte_code


def only_line(finished: subprocess.CompletedProcess[str]) -> str:
    """What the command says beside the steps that went well."""
    (line,) = [line for line in finished.stderr.splitlines() if not line.startswith("✓")]
    assert line.startswith("bertexport: ")
    return line


class SignalledSteps:
    """Steps of which one receives a signal: with its first input that is done, or, if it has none, after its work."""

    def __init__(self, title: str, number: signal.Signals) -> None:
        self._title, self._number = title, number

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        is_signalled = title == self._title
        yield self._receive if is_signalled and total is not None else lambda: None
        if is_signalled:
            self._receive()

    def _receive(self) -> None:
        signal.raise_signal(self._number)


@pytest.mark.parametrize(
    ("step", "number", "precision"),
    [
        *((step, signal.SIGINT, "fp32") for step in STEPS),
        ("Run it in PyTorch", signal.SIGINT, "int8"),
        ("Calibrate", signal.SIGINT, "int8"),
        *((step, signal.SIGTERM, "fp32") for step in ("Load the checkpoint in PyTorch", "Write the graph")),
        ("Write the graph", signal.SIGHUP, "fp32"),
    ],
)
def test_an_interruption_in_any_step_leaves_nothing(
    step: str, number: signal.Signals, precision: str, tmp_path: Path, brief_texts: Path
) -> None:
    """Stopped in the middle, an export takes its half-written files away."""
    checkpoint, output = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "out" / "bundle"
    request = ExportRequest(model=str(checkpoint), output=output, precision=precision, verify=brief_texts)
    with kept_handlers():
        raise_when_interrupted()
        with pytest.raises(KeyboardInterrupt):
            export_checkpoint(request, SignalledSteps(step, number))
    assert not output.parent.exists()


def signal_in_pytorch(number: signal.Signals, directory: Path, output: Path) -> tuple[int, str]:
    """Signal a process that runs so many texts through so many layers that the signal comes long before the last.

    The values are the exit status and what the process writes to stderr from there.
    """
    checkpoint, texts = write_checkpoint(directory / "checkpoint", num_hidden_layers=12), directory / "texts.txt"
    texts.write_text("the cat sat on the mat and the dog sat under it\n" * 1_000, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "bertexport", checkpoint, "-o", output, "--verify", texts],
        env=command_environment(directory / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Load the checkpoint in PyTorch" in line:
                break
        process.send_signal(number)
        stderr = process.communicate(timeout=120)[1]
    return process.returncode, stderr


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_command_says_so_in_one_line(number: signal.Signals, tmp_path: Path) -> None:
    """It ends with 130. A download that SIGTERM ends is in test_hub.py."""
    output = tmp_path / "out" / "bundle"
    status, stderr = signal_in_pytorch(number, tmp_path, output)
    assert (status, stderr) == (130, "bertexport: interrupted; nothing was written\n")
    assert not output.parent.exists()


def test_what_another_export_left_is_removed_and_named(
    tmp_path: Path, brief_texts: Path, call_command: RunCommand
) -> None:
    """A folder that no living process has locked is of an export that was killed."""
    checkpoint, left = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "out" / f"{PREFIX}left"
    (left / NEW).mkdir(parents=True)
    result = call_command(checkpoint, "-o", left.parent / "bundle", "--verify", brief_texts)
    assert result.returncode == 0, result.stderr
    assert f"✓ Removed {left}, left by an export that was killed" in result.stderr
    assert [path.name for path in left.parent.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_what_a_killed_command_left_is_removed_by_the_next(
    tmp_path: Path, brief_texts: Path, call_command: RunCommand
) -> None:
    """It could not clean up; the next export into the folder does."""
    output = tmp_path / "out" / "bundle"
    status, _ = signal_in_pytorch(signal.SIGKILL, tmp_path, output)
    assert status == -signal.SIGKILL
    (left,) = output.parent.iterdir()
    result = call_command(tmp_path / "checkpoint", "-o", output, "--verify", brief_texts)
    assert result.returncode == 0, result.stderr
    assert f"✓ Removed {left}, left by an export that was killed" in result.stderr
    assert [path.name for path in output.parent.iterdir()] == ["bundle"]
