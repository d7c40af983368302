"""Bearer tokens: which are valid, by a file with one a line. Several are valid at a time, so that they can rotate."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from pathlib import Path

from bertserve.doors.reloading import FileError, ReloadedFiles
from bertserve.observe.metrics import Metrics

# RFC 6750's b64token, and no fewer characters than make guessing hopeless.
TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
MIN_CHARACTERS = 16

# A token that was taken out of the file stays valid for no longer than this.
RELOAD_SECONDS = 1.0


class Tokens:
    """Knows the tokens by their hashes alone, and takes the same time for a wrong one whatever it shares with a right
    one."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        """Raises FileError where the file is missing, or holds no token or a bad one."""
        self._files = ReloadedFiles("tokens", [path], lambda contents: read_tokens(path, contents), metrics)
        self._digests = self._files.current()
        self._read_at = time.monotonic()

    def are_shown_by(self, authorization: str | bytes | None) -> bool:
        """Whether an `authorization` header, such as `Bearer 8Zx…`, shows a token of the file."""
        self._refresh()
        scheme, _, token = _as_bytes(authorization).partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        digest = hashlib.sha256(token.strip()).digest()
        return any([hmac.compare_digest(digest, known) for known in self._digests])  # noqa: C419 - no early end

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._read_at >= RELOAD_SECONDS:
            self._read_at = now
            self._digests = self._files.current()


def read_tokens(path: Path, contents: Sequence[bytes]) -> tuple[bytes, ...]:
    """SHA-256 of every token. Empty lines and lines that start with # are left out. Raises FileError."""
    digests = []
    for number, line in enumerate(contents[0].splitlines(), 1):
        token = line.strip()
        if not token or token.startswith(b"#"):
            continue
        if TOKEN.fullmatch(token) is None:
            raise FileError(f"{path}:{number}: a token is letters, digits and -._~+/ with = at its end")
        if len(token) < MIN_CHARACTERS:
            raise FileError(f"{path}:{number}: a token has {MIN_CHARACTERS} characters or more")
        digests.append(hashlib.sha256(token).digest())
    if not digests:
        raise FileError(f"{path} holds no token; write one a line")
    return tuple(digests)


def _as_bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
