"""Authorities and certificates, made for one test."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Pair:
    """PEM files of a certificate chain and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates. ca: the PEM file to trust it by."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def issue(self, name: str, identity: str = "127.0.0.1") -> Pair:
        issued = self._authority.issue_cert(identity, common_name=name)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(pair.key))
        return pair


def replace(target: Path, content: bytes) -> None:
    """As whoever renews files should: readers see the old one or the new one."""
    fresh = target.with_suffix(".fresh")
    fresh.write_bytes(content)
    os.replace(fresh, target)  # noqa: PTH105 - the word for it
