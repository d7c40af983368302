"""What `bertexport` does with its arguments: steps and a closing table out, one clear line where it fails.

Steps and errors go to stderr, the table to stdout.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from bertserve.bundle import BundleError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bertexport.errors import ExportError, explain_unexpected
from bertexport.graph.precision.names import PRECISION_NAMES
from bertexport.interruption import exit_interrupted, ignore_interruptions, raise_when_interrupted
from bertexport.paths import show
from bertexport.request import ExportRequest
from bertexport.streams import accept_every_letter

if TYPE_CHECKING:
    from bertexport.export import ExportResult

FAILED = 1

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _parse_precision(name: str) -> str:
    if name not in PRECISION_NAMES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, PRECISION_NAMES))}.")
    return name


class Steps:
    """Shows each step while it runs, and a line once it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Enter a step; the value advances it by one."""
        title, began = show(title), time.perf_counter()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)
        count = f", {total} inputs" if total is not None else ""
        self._console.print(f"✓ {title} ({time.perf_counter() - began:.1f} s{count})", highlight=False, soft_wrap=True)


class _Console(Console):
    """One that raises for a reader who has left, instead of ending the program without a word."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - rich calls it where it has caught the error


Model = Annotated[str, typer.Argument(metavar="MODEL", help="A local directory in Hugging Face form, or a hub id.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")]
Precision = Annotated[
    str,
    typer.Option(parser=_parse_precision, metavar=f"<{'|'.join(PRECISION_NAMES)}>", help="How the bundle computes."),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
Verify = Annotated[Path | None, typer.Option(help="Texts to verify on, one a line, a tab between those of a pair.")]
Calibration = Annotated[
    Path | None, typer.Option(help="Texts that int8 is fitted to, in the form of --verify; other texts than those.")
]
AllowLoss = Annotated[
    bool,
    typer.Option(
        "--allow-accuracy-loss", help="Write the bundle, and mark it, even if it misses the accuracy it should have."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output directory if it exists.")]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="Where an error arose in the program, before the line that tells it.")
]


@app.command()
def export(
    model: Model,
    output: Output,
    precision: Precision = "fp32",
    revision: Revision = None,
    verify: Verify = None,
    calibration: Calibration = None,
    allow_accuracy_loss: AllowLoss = False,
    force: Force = False,
    show_traceback: Traceback = False,
) -> None:
    """Turn a BERT checkpoint into a bundle for bertserve, verified against PyTorch."""
    try:
        # PyTorch and transformers take seconds to import: not for --help or a mistyped option.
        with explain_unexpected():
            from bertexport.export import export_checkpoint

        # From here on there are files to take away.
        raise_when_interrupted()
        request = ExportRequest(
            model=model,
            output=output,
            precision=precision,
            revision=revision,
            verify=verify,
            calibration=calibration,
            allow_accuracy_loss=allow_accuracy_loss,
            force=force,
        )
        result = export_checkpoint(request, Steps(Console(stderr=True, markup=False, emoji=False)))
        ignore_interruptions()
    except (ExportError, BundleError) as error:
        if show_traceback:
            traceback.print_exception(error)
        _fail(str(error))
    except KeyboardInterrupt:
        # Here, for typer would end the process without a word.
        exit_interrupted()
    _show(_closing_table(result, output))


def _fail(message: str) -> NoReturn:
    print(f"bertexport: {' '.join(show(message).split())}", file=sys.stderr)  # noqa: T201 (the command's output)
    sys.exit(FAILED)


def _show(table: Table) -> None:
    """Print the table. If standard output cannot be written, say that the bundle is there all the same."""
    accept_every_letter()
    try:
        # Names may hold what would be markup.
        _Console(markup=False, emoji=False).print(table)
    except OSError as error:
        # Of what is left to write the interpreter would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"the bundle is complete, but standard output cannot be written: {error.strerror}")


def _closing_table(result: ExportResult, output: Path) -> Table:
    manifest, verdict = result.manifest, result.verdict
    verified = "verified" if not verdict.failures else "LESS ACCURATE THAN IT SHOULD BE"
    table = Table(title=f"{show(output)}: complete and {verified}", show_header=False, title_justify="left")
    table.add_row("bundle id", manifest.bundle_id[:16] + "…")
    table.add_row("source", f"{manifest.source.model} {manifest.source.revision}".strip())
    table.add_row("heads", ", ".join(head.value for head in manifest.model.heads))
    table.add_row("precision", manifest.model.precision)
    table.add_row("longest input", f"{manifest.model.max_tokens} tokens")
    table.add_row("size", f"{sum(record.size for record in manifest.files.values()) / 1e6:,.1f} MB")
    attention = sum(count for name, count in result.operators.optimized.items() if name.endswith("Attention"))
    nodes = sum(result.operators.optimized.values())
    table.add_row("operators", f"{nodes} as the session runs it, {attention} fused attention")
    gates = {gate.figure: gate for gate in verdict.gates}
    for name in verdict.figures:
        if name in gates or name.endswith("_agreement"):
            table.add_row(name.replace("_", " "), verdict.write(name) + (f" ({gates[name]})" if name in gates else ""))
    for failure in verdict.failures:
        table.add_row("accuracy loss", failure)
    for note in result.notes:
        table.add_row("note", note)
    return table
