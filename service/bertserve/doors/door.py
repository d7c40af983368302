"""What a door is: one way for clients to reach a `Serving`, over one transport, at one address."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from bertserve.serving import Serving


class ServerError(Exception):
    """The server cannot start. The message says why and what to do."""


class Door(Protocol):
    """An open door. It reads from the serving's drain when to refuse calls, and counts its open calls there.

    A door whose clients watch the server's health tells them what `Serving.watch_ready` says.
    """

    @property
    def name(self) -> str:
        """Return what the ready line calls the door, such as `grpc`."""

    @property
    def address(self) -> str:
        """Return HOST:PORT where the door really listens."""

    async def start(self) -> None:
        """Take the first client. Called once all doors have their addresses."""

    async def lost(self) -> None:
        """Return once the door has closed by itself, so that clients cannot reach the server any more."""


# Binds the address, and raises ServerError if it cannot. The end of the block closes the door, calls included.
OpenDoor: TypeAlias = Callable[[Serving], AbstractAsyncContextManager[Door]]


def join_address(host: str, port: int) -> str:
    """HOST:PORT, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
