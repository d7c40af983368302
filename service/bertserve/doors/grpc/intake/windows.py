"""What moves over a connection before its receiver asks for more, and when a client should try again."""

from __future__ import annotations

# HTTP/2's first window. A smaller message moves at once, so that it costs no more memory than its headers did.
SMALL_BYTES = 64 * 1024

RETRY_AFTER_SECONDS = 1.0
