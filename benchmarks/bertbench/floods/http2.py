"""One HTTP/2 connection to a gRPC server, whose client may do what a gRPC library never does.

It can send half a message, send it slowly, open a thousand calls at once, or leave answers unread. It keeps to the
server's flow control, and never grants the server more than the first window.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACKNOWLEDGED = 1, 4, 1
INITIAL_WINDOW_SETTING = 4
FIRST_WINDOW_BYTES = 65_535
FRAME_BYTES = 16_384
FRAME_HEADER_BYTES = 9


class ConnectionEnded(Exception):
    """The server closed the connection."""


@dataclass(slots=True)
class _Call:
    """window: bytes that the server still takes of this call. ended: when the server has said how the call ended."""

    window: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Connection:
    """Calls on one connection. Open it with `open_connection`, and close it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._calls: dict[int, _Call] = {}
        self._next_number = 1
        self._window = self._first_window = FIRST_WINDOW_BYTES
        self._changed = asyncio.Condition()
        self._is_open = True
        writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, target: str) -> Self:
        """target: HOST:PORT. Raise OSError if nobody listens."""
        host, _, port = target.rpartition(":")
        return cls(*await asyncio.open_connection(host.strip("[]"), int(port)))

    def begin(self, path: str) -> int:
        """Send the headers of a call. Return its number, which is its HTTP/2 stream. Raise ConnectionEnded."""
        if not self._is_open:
            raise ConnectionEnded
        number = self._next_number
        self._next_number += 2
        self._calls[number] = _Call(self._first_window)
        self._writer.write(frame(HEADERS, END_HEADERS, number, call_headers(path)))
        return number

    async def send(self, number: int, content: bytes, *, is_last: bool) -> None:
        """Send a part of a call's message as the server makes room. Return early if the call or connection ends."""
        call, rest = self._calls[number], memoryview(content)
        while rest:
            async with self._changed:
                await self._changed.wait_for(lambda: self._is_over(call) or min(call.window, self._window) > 0)
            if self._is_over(call):
                return
            part = rest[: min(FRAME_BYTES, call.window, self._window)]
            rest = rest[len(part) :]
            call.window -= len(part)
            self._window -= len(part)
            self._writer.write(frame(DATA, END_STREAM if is_last and not rest else 0, number, bytes(part)))
            await self._writer.drain()

    async def wait_end(self, number: int) -> None:
        """Wait until the server has ended a call. Raise ConnectionEnded."""
        await self._calls[number].ended.wait()
        del self._calls[number]
        if not self._is_open:
            raise ConnectionEnded

    async def close(self) -> None:
        self._reading.cancel()
        self._writer.close()
        await asyncio.gather(self._reading, return_exceptions=True)

    def _is_over(self, call: _Call) -> bool:
        return call.ended.is_set() or not self._is_open

    async def _read(self) -> None:
        try:
            while True:
                header = await self._reader.readexactly(FRAME_HEADER_BYTES)
                size, kind, flags = int.from_bytes(header[:3]), header[3], header[4]
                number = int.from_bytes(header[5:]) & 0x7FFF_FFFF
                await self._take(kind, flags, number, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._is_open = False
            for call in self._calls.values():
                call.ended.set()
            async with self._changed:
                self._changed.notify_all()

    async def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == RESET or (kind in (HEADERS, DATA) and flags & END_STREAM):
            if number in self._calls:
                self._calls[number].ended.set()
        elif kind == WINDOW_UPDATE:
            self._widen(number, int.from_bytes(payload) & 0x7FFF_FFFF)
        elif kind == SETTINGS and not flags & ACKNOWLEDGED:
            self._set_first_window(payload)
            self._writer.write(frame(SETTINGS, ACKNOWLEDGED, 0, b""))
        elif kind == PING and not flags & ACKNOWLEDGED:
            self._writer.write(frame(PING, ACKNOWLEDGED, 0, payload))
        async with self._changed:
            self._changed.notify_all()

    def _widen(self, number: int, size: int) -> None:
        if number == 0:
            self._window += size
        elif number in self._calls:
            self._calls[number].window += size

    def _set_first_window(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == INITIAL_WINDOW_SETTING:
                for call in self._calls.values():
                    call.window += value - self._first_window
                self._first_window = value


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """An HTTP/2 frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + number.to_bytes(4) + payload


def call_headers(path: str) -> bytes:
    """Headers of a gRPC call, none of them compressed (RFC 7541, section 6.2.2)."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())


def prefixed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, its size before it."""
    return b"\0" + len(message).to_bytes(4) + message


def _string(text: str) -> bytes:
    """A string literal of fewer than 127 bytes."""
    return bytes([len(text)]) + text.encode("ascii")
