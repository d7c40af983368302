"""Free places on loopback."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def free_network() -> str:
    """A.B.C of a loopback network /24, drawn at random, so that every replica can have a server's usual ports."""
    return f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"  # noqa: S311 (no secret)
