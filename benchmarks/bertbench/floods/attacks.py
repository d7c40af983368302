"""The floods, and the process that sends one.

A flood is sent from a process of its own, so that the small caller's clock does not wait for it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event

from bertapi.v1 import bert_service_pb2 as pb

from bertbench.errors import BenchError
from bertbench.floods.http2 import Connection, ConnectionEnded, prefixed

EMBED = "/bertapi.v1.BertService/Embed"
LARGE_REQUEST_INPUTS = 1000
SLOW_REQUEST_BYTES = 1_000_000
CONNECT_SECONDS = 30.0
RECONNECT_SECONDS = 0.05
WORDS = "the cat "


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Clients that each hold `calls` open on a connection of their own, and begin another when one ends.

    content: what is sent of each call, the message's prefix included. is_whole: whether the content ends the request.
    part_bytes, pause_seconds: the content goes in parts of this size with this pause behind each; 0 sends it at once.
    head_start_seconds: of the flood, before other callers come.
    """

    name: str
    connections: int
    calls: int
    content: bytes
    is_whole: bool = True
    part_bytes: int = 0
    pause_seconds: float = 0.0
    head_start_seconds: float = 0.5


def make_floods(largest_bytes: int, layer_count: int) -> tuple[Flood, ...]:
    """largest_bytes: the largest request that the server takes. layer_count: of the model that it serves."""
    return (
        Flood(name="200 connections, largest requests", connections=200, calls=1, content=_long_texts(largest_bytes)),
        Flood(name="200 connections, empty inputs", connections=200, calls=1, content=_empty_inputs(largest_bytes)),
        Flood(name="1,000 calls of which nothing comes", connections=1, calls=1000, content=b"", is_whole=False),
        Flood(
            name="100 slow senders", connections=100, calls=1, content=prefixed(bytes(SLOW_REQUEST_BYTES)),
            part_bytes=1000, pause_seconds=0.05,
        ),
        Flood(
            name="answers that nobody reads", connections=60, calls=1, content=_large_answer(layer_count),
            pause_seconds=5.0, head_start_seconds=8.0,
        ),
    )  # fmt: skip


def _long_texts(size: int) -> bytes:
    """A request of almost this size, whose texts are longer than a model takes."""
    text = WORDS * (size // LARGE_REQUEST_INPUTS // len(WORDS) - 2)
    return prefixed(pb.EmbedRequest(inputs=[pb.TextInput(text=text)] * LARGE_REQUEST_INPUTS).SerializeToString())


def _empty_inputs(size: int) -> bytes:
    """A request of this size, with an input in every two bytes."""
    return prefixed(pb.EmbedRequest(inputs=[pb.TextInput()]).SerializeToString() * (size // 2))


def _large_answer(layer_count: int) -> bytes:
    """A small request for a vector of every token in every layer."""
    options = pb.EmbedOptions(pooling=pb.POOLING_NONE, layers=range(layer_count + 1))
    inputs = [pb.TextInput(text=WORDS * 40)] * 16
    request = pb.EmbedRequest(inputs=inputs, options=options, truncation=pb.TRUNCATION_END)
    return prefixed(request.SerializeToString())


@contextmanager
def flooding(flood: Flood, target: str) -> Iterator[None]:
    """Send a flood for as long as the block lasts, which begins a moment after all are connected. Raises BenchError."""
    context = multiprocessing.get_context("spawn")
    connected = context.Event()
    process = context.Process(target=_send_flood, args=(flood, target, connected), daemon=True)
    process.start()
    try:
        if not connected.wait(CONNECT_SECONDS):
            raise BenchError(f"{flood.name}: not connected within {CONNECT_SECONDS:.0f} s")
        time.sleep(flood.head_start_seconds)
        yield
    finally:
        process.terminate()
        process.join()


def _send_flood(flood: Flood, target: str, connected: Event) -> None:
    asyncio.run(_send_all(flood, target, connected))


async def _send_all(flood: Flood, target: str, connected: Event) -> None:
    connections = [await Connection.open(target) for _ in range(flood.connections)]
    connected.set()
    await asyncio.gather(*(_keep_sending(flood, target, connection) for connection in connections))


async def _keep_sending(flood: Flood, target: str, connection: Connection) -> None:
    """Connect again whenever the server closes the connection."""
    while True:
        with suppress(ConnectionEnded):
            await asyncio.gather(*(_call_again_and_again(flood, connection) for _ in range(flood.calls)))
        await connection.close()
        await asyncio.sleep(RECONNECT_SECONDS)
        with suppress(OSError):
            connection = await Connection.open(target)


async def _call_again_and_again(flood: Flood, connection: Connection) -> None:
    part_bytes = flood.part_bytes or len(flood.content)
    while True:
        number = connection.begin(EMBED)
        for first in range(0, len(flood.content), part_bytes or 1):
            part = flood.content[first : first + part_bytes]
            is_last = flood.is_whole and first + part_bytes >= len(flood.content)
            await connection.send(number, part, is_last=is_last)
            await asyncio.sleep(flood.pause_seconds)
        await connection.wait_end(number)
