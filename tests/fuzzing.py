"""Bytes that no client should send, and what a server must be like after them."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import grpc
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from google.protobuf import message_factory
from hypothesis import strategies as st
from servers import RunningServer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["BertService"].methods]
REQUEST = pb.EmbedRequest(inputs=[pb.TextInput(text="the cat sat")])
MIB = 2**20


@dataclass(frozen=True)
class Vitals:
    """What an attack must not change."""

    vector: bytes
    resident_bytes: int
    descriptors: int


def examine(server: RunningServer) -> Vitals:
    """Raises where the server does not answer, or some call is still open."""
    assert server.process.poll() is None
    with grpc.insecure_channel(server.target) as channel:
        vector = pb_grpc.BertServiceStub(channel).Embed(REQUEST, timeout=60).embeddings[0].vectors.data
    assert server.page("/livez")[0] == server.page("/readyz")[0] == 200
    process = Path(f"/proc/{server.process.pid}")
    return Vitals(
        vector=vector,
        resident_bytes=int((process / "statm").read_text().split()[1]) * 4096,
        descriptors=sum(1 for _ in (process / "fd").iterdir()),
    )


def open_calls(server: RunningServer) -> float:
    """Calls that started and did not end."""
    started = handled = 0.0
    for line in server.page("/metrics")[1].splitlines():
        value = line.rpartition(" ")[2]
        started += float(value) if line.startswith("grpc_server_started_total{") else 0
        handled += float(value) if line.startswith("grpc_server_handled_total{") else 0
    return started - handled


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """An HTTP/2 frame (RFC 9113); length: what it says, where that is not the truth."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream & 0xFFFFFFFF) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header without compression (RFC 7541 §6.2.2); both shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call_headers(method: str, *more: tuple[bytes, bytes], service: str = "bertapi.v1.BertService") -> bytes:
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", f"/{service}/{method}".encode()),
        (b":authority", b"x"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    ]
    return b"".join(literal(name, value) for name, value in fields)


def send(server: RunningServer, content: bytes, linger_seconds: float = 0.02) -> None:
    """On a connection of its own, which the server may close at any time."""
    host, _, port = server.target.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.settimeout(linger_seconds)
        connection.sendall(content)
        while connection.recv(65536):
            pass


FRAMES = st.builds(
    frame,
    st.one_of(st.integers(0, 10), st.integers(0, 255)),
    st.integers(0, 255),
    st.one_of(st.sampled_from([0, 1, 2, 3, 2**31 - 1]), st.integers(0, 2**32 - 1)),
    st.one_of(st.binary(max_size=200), st.sampled_from(METHODS).map(call_headers)),
    st.one_of(st.none(), st.integers(0, 2**24 - 1)),
)
CONNECTIONS = st.one_of(
    st.binary(max_size=500),
    st.integers(0, len(PREFACE)).map(lambda size: PREFACE[:size]),
    st.lists(FRAMES, max_size=20).map(lambda frames: PREFACE + b"".join(frames)),
    st.lists(FRAMES, max_size=20).map(lambda frames: PREFACE + frame(4, 0, 0, b"") + b"".join(frames)),
    st.just(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    st.just(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
)


@st.composite
def message_bytes(draw: st.DrawFn, kind: type) -> bytes:
    """Of a message type: valid, then perhaps damaged in its bytes, or no message at all."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.binary(max_size=300))
    content = bytearray(draw(messages(kind.DESCRIPTOR)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return bytes(content)


TEXTS = st.one_of(
    st.sampled_from(["", "[MASK]", "the cat [MASK]", "\0", "\u202e", "é" * 50, "a" * 3000, "[SEP] [CLS]", " "]),
    st.text(max_size=40),
)


@st.composite
def messages(draw: st.DrawFn, descriptor: object, depth: int = 0) -> bytes:
    """A message of a descriptor with some of its fields, serialized."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:  # type: ignore[attr-defined]
        count = draw(st.sampled_from([0, 1, 1, 3] if field.is_repeated else [0, 1, 1]))
        for _ in range(count):
            _set(draw, message, field, depth)
    return message.SerializeToString()


def _set(draw: st.DrawFn, message: object, field: object, depth: int) -> None:
    if field.message_type is not None:  # type: ignore[attr-defined]
        target = getattr(message, field.name)  # type: ignore[attr-defined]
        if field.message_type.GetOptions().map_entry:  # type: ignore[attr-defined]
            value = field.message_type.fields_by_name["value"].message_type  # type: ignore[attr-defined]
            target[draw(TEXTS)].MergeFromString(draw(messages(value, depth + 1)))
        elif depth < 4:
            (target.add() if field.is_repeated else target).MergeFromString(  # type: ignore[attr-defined]
                draw(messages(field.message_type, depth + 1))  # type: ignore[attr-defined]
            )
        return
    value = draw(_values(field))
    if field.is_repeated:  # type: ignore[attr-defined]
        getattr(message, field.name).append(value)  # type: ignore[attr-defined]
    else:
        setattr(message, field.name, value)  # type: ignore[attr-defined]


def _values(field: object) -> st.SearchStrategy[object]:
    kind = type(field)
    if field.type == kind.TYPE_BYTES:  # type: ignore[attr-defined]
        return st.binary(max_size=60)
    by_type = {
        kind.CPPTYPE_STRING: TEXTS,
        kind.CPPTYPE_BOOL: st.booleans(),
        kind.CPPTYPE_INT32: st.one_of(st.integers(-3, 3), st.integers(-(2**31), 2**31 - 1)),
        kind.CPPTYPE_UINT32: st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1)),
        kind.CPPTYPE_ENUM: st.one_of(st.integers(0, 5), st.integers(-(2**31), 2**31 - 1)),
        kind.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        kind.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
        kind.CPPTYPE_FLOAT: st.floats(width=32),
        kind.CPPTYPE_DOUBLE: st.floats(),
    }
    return by_type[field.cpp_type]  # type: ignore[attr-defined]
