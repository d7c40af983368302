"""What bundles share in memory once they are loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bertserve.bundle import bundle_identity, read_bundle, record_files, write_manifest
from bertserve.loading import load_models
from bertserve.tokenizer import Text, TooManyTokens, Truncation
from servers import PLAIN, TAGGER


def limited(bundle: Path, copy: Path, **facts: object) -> Path:
    """The same files, with other facts."""
    shutil.copytree(bundle, copy)
    manifest = read_bundle(copy).manifest
    model = manifest.model.model_copy(update=facts)
    files = record_files(copy)
    write_manifest(
        copy, manifest.model_copy(update={"model": model, "bundle_id": bundle_identity(model, files), "files": files})
    )
    return copy


def test_bundles_with_one_tokenizer_share_it(tmp_path: Path) -> None:
    """Each with its own limit: a vocabulary of 250,000 entries takes 300 MB, which no second bundle takes again."""
    paths = {"long": PLAIN, "short": limited(PLAIN, tmp_path / "short", max_tokens=8), "other": TAGGER}
    long, short, other = load_models(paths, lane_threads=1)
    assert short.tokenizer._tokenizer is long.tokenizer._tokenizer
    text = [Text(text="the cat sat on the mat the cat")]
    assert len(long.tokenizer.tokenize(text, Truncation.ERROR)[0]) > 8
    with pytest.raises(TooManyTokens, match="the model takes 8"):
        short.tokenizer.tokenize(text, Truncation.ERROR)
    assert other.tokenizer.tokenize(text, Truncation.ERROR)


def test_a_bundle_with_another_mask_does_not_share(tmp_path: Path) -> None:
    """The literal [MASK] would mean the first one's."""
    special = read_bundle(PLAIN).model.special_tokens
    other = special.model_copy(update={"mask": special.unk})
    paths = {"one": PLAIN, "two": limited(PLAIN, tmp_path / "two", special_tokens=other)}
    one, two = load_models(paths, lane_threads=1)
    assert one.tokenizer._tokenizer is not two.tokenizer._tokenizer
