"""What stops an export, in the words that the command prints."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from bertserve.bundle import BundleError


class ExportError(Exception):
    """A checkpoint that cannot become a bundle. The message says what is wrong, where, and what to do, in one line."""


@contextmanager
def explain_unexpected() -> Iterator[None]:
    """Turn an error that nobody foresaw into an ExportError of one line, which has the error as its cause.

    PyTorch, transformers and tokenizers raise many classes; a panic of Rust code is not even an Exception. A missing
    package passes, because the command tells how to install it.
    """
    try:
        yield
    except (ExportError, BundleError, ModuleNotFoundError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())
        frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        library = str(frames[-1]).partition(".")[0] if frames else "bertexport"
        raise ExportError(
            f"{library} failed where nobody expected it: {type(error).__name__}{f': {reason}' if reason else ''}; "
            "--traceback shows where"
        ) from error
