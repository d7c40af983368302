"""Where a checkpoint lies: a local directory, or a repository on the Hugging Face hub that is downloaded first.

Owns what is fetched, and every way in which fetching fails. Knows nothing of what the files hold.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from bertexport.errors import ExportError
from bertexport.paths import show

WAKE_SECONDS = 0.1

HUB_ID = re.compile(r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?$")

# Older sentence-transformers repositories keep the transformer in a folder of its own.
_FOLDERS = ("", "0_Transformer/")
SIDE_FILES = (
    "modules.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "*_Normalize/config.json",
    *(
        f"{folder}{name}"
        for folder in _FOLDERS
        for name in (
            "config.json",
            "adapter_config.json",
            "sentence_*_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.txt",
            "vocab.json",
            "merges.txt",
            "sentencepiece.bpe.model",
        )
    ),
)
SAFETENSORS_FILES = tuple(f"{folder}model*.safetensors{end}" for folder in _FOLDERS for end in ("", ".index.json"))
PICKLE_FILES = tuple(f"{folder}pytorch_model*.bin{end}" for folder in _FOLDERS for end in ("", ".index.json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A checkpoint on this machine.

    name: hub id, or the folder's name as `show` writes it; revision: the hub's commit, empty for a folder.
    """

    path: Path
    name: str
    revision: str


def locate(model: str, revision: str | None) -> Location:
    """A local directory as it is, anything else by its hub id. Raises ExportError."""
    path = Path(model)
    if path.is_dir():
        if revision is not None:
            raise ExportError(f"{model} is a local directory, which has no revisions; leave out --revision")
        return Location(path=path, name=show(path.resolve().name), revision="")
    if path.exists():
        raise ExportError(f"{model} is a file; give the directory that holds config.json and the weights")
    if not HUB_ID.match(model):
        raise ExportError(f"{model}: no such directory, and not the form of a hub id (NAME or OWNER/NAME)")
    return _download(model, revision)


def _download(model: str, revision: str | None) -> Location:
    """The files that an export reads; pickled weights only where the repository has no others."""
    from huggingface_hub import errors

    where = f"{model} at revision {revision}" if revision else model
    try:
        path = _fetch(model, revision, (*SIDE_FILES, *SAFETENSORS_FILES))
        if not any(path.glob("**/model*.safetensors")):
            path = _fetch(model, revision, PICKLE_FILES)
    except errors.RevisionNotFoundError as error:
        raise ExportError(f"{model}: the hub has no revision {revision!r} of it") from error
    except errors.GatedRepoError as error:
        raise ExportError(
            f"{model}: the hub gives it only to those it has accepted; log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ExportError(f"{model}: neither a directory here nor a model on the hub that may be read") from error
    except errors.LocalEntryNotFoundError as error:
        response = getattr(error.__cause__, "response", None)
        fault = "cannot be reached" if response is None else f"answers with status {response.status_code}"
        raise ExportError(f"{where}: the hub {fault}, and nothing of it is cached here") from error
    except Exception as error:  # the hub's client lets its HTTP library's and the system's errors through
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExportError(f"{where}: download failed: {reason}") from error
    return Location(path=path, name=model, revision=path.name)


def _fetch(model: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    # In a thread, and nobody waits for its end: the hub's client, interrupted, would first finish its downloads.
    thread = ThreadPoolExecutor(max_workers=1)
    try:
        fetching = thread.submit(snapshot_download, model, revision=revision, allow_patterns=list(patterns))
        # Python hears of a signal that comes just before it falls asleep when it next wakes.
        while not wait([fetching], timeout=WAKE_SECONDS).done:
            pass
        return Path(fetching.result())
    finally:
        thread.shutdown(wait=False)
