"""The bundle: the directory that `bertexport` writes and `bertserve` reads, and the rules by which either trusts it.

Owns the identity and the hashes; `manifest` has the form of what a bundle states. Knows neither ONNX nor gRPC.

    manifest.json    what the model is, and the size and sha256 of every other file
    model.onnx       the graph (+ model.onnx.data when large)
    tokenizer.json   truncation and padding removed
    golden.npz       inputs, PyTorch's outputs, and this bundle's own outputs at export
    REPORT.md/.json  accuracy against PyTorch
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bertserve.manifest import (
    FileRecord,
    Head,
    LabelActivation,
    Manifest,
    ModelFacts,
    Pooling,
    ProblemType,
    Similarity,
    Source,
    SpecialToken,
    SpecialTokens,
)
from bertserve.plain_files import NotPlainError, find_plain_file

__all__ = [
    "FileRecord", "Head", "LabelActivation", "Manifest", "ModelFacts", "Pooling", "ProblemType", "Similarity",
    "Source", "SpecialToken", "SpecialTokens",
]  # fmt: skip

# The form that is written, and every form that is read: a bundle of an earlier version is served as it is.
SCHEMA_VERSION = 2
READABLE_SCHEMAS = (1, 2)
MANIFEST_NAME = "manifest.json"
GRAPH_NAME = "model.onnx"
GRAPH_DATA_NAME = "model.onnx.data"
TOKENIZER_NAME = "tokenizer.json"
GOLDEN_NAME = "golden.npz"
REQUIRED_FILES = (GRAPH_NAME, TOKENIZER_NAME, GOLDEN_NAME, "REPORT.md", "report.json")
IDENTITY_FILES = (GRAPH_NAME, GRAPH_DATA_NAME, TOKENIZER_NAME)


class BundleError(Exception):
    """A bundle that cannot be trusted or written. The message says what is wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory whose manifest and hashes were checked."""

    path: Path
    manifest: Manifest

    @property
    def model(self) -> ModelFacts:
        return self.manifest.model

    @property
    def graph_path(self) -> Path:
        return self.path / GRAPH_NAME

    @property
    def graph_data_path(self) -> Path:
        """Where large weights lie; small graphs have none."""
        return self.path / GRAPH_DATA_NAME

    @property
    def tokenizer_path(self) -> Path:
        return self.path / TOKENIZER_NAME

    @property
    def golden_path(self) -> Path:
        return self.path / GOLDEN_NAME


def read_bundle(path: Path) -> Bundle:
    """Check everything that can be checked without running the model.

    Raises BundleError: not a bundle, a newer schema, a missing or changed file, an identity that does not match.
    """
    bundle = open_bundle(path)
    check_hashes(bundle)
    return bundle


def open_bundle(path: Path) -> Bundle:
    """Check all but the files' hashes, which take longest. Raises BundleError."""
    manifest = _parse_manifest(path)
    missing = [name for name in REQUIRED_FILES if name not in manifest.files]
    if missing:
        raise BundleError(f"{path}: the manifest does not list {', '.join(missing)}; export the bundle again")
    for name, record in manifest.files.items():
        _check_size(path / name, record)
    if bundle_identity(manifest.model, manifest.files) != manifest.bundle_id:
        raise BundleError(f"{path}: the bundle id does not match the model's facts and files; export the bundle again")
    return Bundle(path=path, manifest=manifest)


def check_hashes(bundle: Bundle) -> None:
    """Whether every file holds what the manifest says. Raises BundleError."""
    for name, record in bundle.manifest.files.items():
        path = bundle.path / name
        try:
            sha256 = hash_file(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        if sha256 != record.sha256:
            raise BundleError(f"{path}: its content differs from the manifest's hash; copy or export the bundle again")


def bundle_identity(model: ModelFacts, files: dict[str, FileRecord]) -> str:
    """The bundle id: sha256 over the graph, the tokenizer and the facts. The same fp32 checkpoint gives the same id."""
    identity = {
        "model": model.model_dump(mode="json", exclude=model.unstated),
        "files": {name: files[name].sha256 for name in IDENTITY_FILES if name in files},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def record_files(directory: Path) -> dict[str, FileRecord]:
    """Size and hash of every file in a directory but the manifest."""
    names = sorted(p.name for p in directory.iterdir() if p.name != MANIFEST_NAME)
    return {
        name: FileRecord(sha256=hash_file(directory / name), size=(directory / name).stat().st_size) for name in names
    }


def write_manifest(directory: Path, manifest: Manifest) -> None:
    unstated: dict[str, Any] = {"model": manifest.model.unstated}
    if manifest.operators is None:
        unstated["operators"] = True
    fields = manifest.model_dump(mode="json", exclude=unstated)
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    (directory / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse_manifest(path: Path) -> Manifest:
    manifest_path = path / MANIFEST_NAME
    try:
        find_plain_file(manifest_path)
        text = manifest_path.read_text(encoding="utf-8")
    except NotPlainError as error:
        raise _not_plain(manifest_path, error) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BundleError(
            f"{manifest_path}: cannot be read ({reason}); a bundle is a directory written by bertexport"
        ) from error
    try:
        fields = json.loads(text)
        schema_version = fields["schema_version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(f"{manifest_path}: not a manifest; export the bundle again") from error
    if schema_version not in READABLE_SCHEMAS:
        readable = " and ".join(map(str, READABLE_SCHEMAS))
        raise BundleError(
            f"{manifest_path}: schema version {schema_version!r}, this program reads {readable}; "
            "upgrade bertserve first, then its bundles, or export the bundle with this version"
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{manifest_path}: {where}: {first['msg']}; export the bundle again") from error


def _check_size(path: Path, record: FileRecord) -> None:
    try:
        size = find_plain_file(path).st_size
    except NotPlainError as error:
        raise _not_plain(path, error) from error
    except FileNotFoundError as error:
        raise BundleError(f"{path}: missing; copy or export the bundle again") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if size != record.size:
        raise BundleError(f"{path}: {size} bytes, the manifest says {record.size}; copy or export the bundle again")


def _not_plain(path: Path, error: NotPlainError) -> BundleError:
    return BundleError(f"{path}: is {error}, and a bundle holds plain files; copy it with its links followed (cp -RL)")


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(f"{path}: cannot be read ({error.strerror}); check its permissions, or copy the bundle again")
