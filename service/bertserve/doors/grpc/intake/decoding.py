"""Decodes requests, after counting the fields that they would become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf import message

from bertserve.doors.grpc.intake.windows import SMALL_BYTES
from bertserve.errors import InvalidInput, Undecodable

# A message of so many fields is never refused for them.
FEW_FIELDS = 16_384

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


Parser: TypeAlias = Callable[[bytes], Any]


def decode(parser: Parser | None, request: bytes, most_fields: int) -> Any:
    """Return the message. Raise Undecodable if there is none, InvalidInput if it has more fields than a request needs.

    An empty input takes two bytes on the wire and sixty in memory. Two million of them, in 4 MiB, would become 145 MB
    and block the event loop ten times as long as counting them does.
    """
    if len(request) > SMALL_BYTES and has_more_fields(request, most_fields):
        allowed = f"{most_fields} fields, the most that the server takes (twice its --max-inputs, or {FEW_FIELDS})"
        raise InvalidInput("inputs", f"the message has more than {allowed}; ask for less at a time")
    return parse(parser, request)


def parse(parser: Parser | None, request: bytes) -> Any:
    """Return the message, or the bytes themselves without a parser. Raise Undecodable."""
    try:
        return parser(request) if parser is not None else request
    except (message.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable("the request is not a valid message of this method") from error


def has_more_fields(encoded: bytes, most: int) -> bool:
    """Tell whether a message has more fields than `most`. Fields of its submessages do not count.

    Counting ends at the first byte that is wrong, as parsing does. (Protocol Buffers' encoding, "Message Structure".)
    """
    position = fields = 0
    try:
        while position < len(encoded):
            fields += 1
            if fields > most:
                return True
            key, position = _read_varint(encoded, position)
            kind = key & 7
            if kind == BYTES:
                size, position = _read_varint(encoded, position)
                position += size
            elif kind == VARINT:
                _, position = _read_varint(encoded, position)
            elif kind in (FIXED64, FIXED32):
                position += 8 if kind == FIXED64 else 4
            # The marks of a group have no content of their own. Fields between them count, too.
    except IndexError:
        return False
    return False


def _read_varint(encoded: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position behind it. Raise IndexError at the end."""
    value = shift = 0
    while (byte := encoded[position]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    return value | byte << shift, position + 1
