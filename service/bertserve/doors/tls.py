"""What TLS needs of files: the server's certificate chain and key, and who may sign clients' certificates."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bertserve.doors.reloading import FileError, ReloadedFiles
from bertserve.observe.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """PEM. client_ca: None where clients need no certificate."""

    chain: bytes
    key: bytes
    client_ca: bytes | None


def open_certificates(
    certificate: Path, key: Path, client_ca: Path | None, metrics: Metrics
) -> ReloadedFiles[Certificates]:
    """Raises FileError where a file is missing, is no PEM, or the key is not the certificate's."""
    paths = [certificate, key, *([client_ca] if client_ca is not None else [])]

    def parse(contents: Sequence[bytes]) -> Certificates:
        chain, private_key, *rest = contents
        _check_pair(certificate, chain, key, private_key)
        if client_ca is not None:
            _check_ca(client_ca, rest[0])
        return Certificates(chain=chain, key=private_key, client_ca=rest[0] if rest else None)

    return ReloadedFiles("certificates", paths, parse, metrics)


def _check_pair(chain_path: Path, chain: bytes, key_path: Path, key: bytes) -> None:
    """gRPC would take any bytes, and fail every handshake after that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # OpenSSL reads files only. What it checks has to be the bytes in hand, and a key belongs on no disk of ours.
    with _in_memory(chain) as chain_file, _in_memory(key) as key_file:
        try:
            context.load_cert_chain(
                f"/proc/self/fd/{chain_file.fileno()}", f"/proc/self/fd/{key_file.fileno()}", password=_no_password
            )
        except (ssl.SSLError, ValueError) as error:
            raise FileError(
                f"{chain_path} and {key_path} are not a PEM certificate chain and its unencrypted private key"
            ) from error


def _check_ca(path: Path, content: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise FileError(f"{path} holds no PEM certificates") from error


def _in_memory(content: bytes) -> BinaryIO:
    file = os.fdopen(os.memfd_create("pem"), "w+b")
    file.write(content)
    file.flush()
    return file


def _no_password() -> str:
    """Without it OpenSSL asks for the password of an encrypted key on the terminal."""
    return ""
