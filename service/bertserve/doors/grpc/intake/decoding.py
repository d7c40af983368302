"""Bytes to messages, after a look at what they would become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf import message

from bertserve.errors import InvalidInput, Undecodable

# A smaller message cannot become much, whatever it holds.
SMALL_BYTES = 64 * 1024

# So many fields are few, in whatever message.
FEW_FIELDS = 16_384

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


Parser: TypeAlias = Callable[[bytes], Any]


def decode(parser: Parser | None, request: bytes, most_fields: int) -> Any:
    """The message. Raises Undecodable where there is none, InvalidInput where it has more fields than a request needs.

    An empty input takes two bytes on the wire and sixty in memory, so that the largest message could become half a
    gigabyte, and hold up the event loop for as long as that takes.
    """
    if len(request) > SMALL_BYTES and has_more_fields(request, most_fields):
        allowed = f"{most_fields} fields, the most that the server takes (twice its --max-inputs, or {FEW_FIELDS})"
        raise InvalidInput("inputs", f"the message has more than {allowed}; ask for less at a time")
    return parse(parser, request)


def parse(parser: Parser | None, request: bytes) -> Any:
    """The message, or the bytes as they are where nothing parses them here. Raises Undecodable."""
    try:
        return parser(request) if parser is not None else request
    except (message.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable("the request is not a valid message of this method") from error


def has_more_fields(encoded: bytes, most: int) -> bool:
    """Whether a message has more fields than that, those of its submessages not counted.

    Ends where the encoding is wrong, as parsing will. (Protocol Buffers' encoding, "Message Structure".)
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
            # The marks of a group have no content of their own; what is between them counts too.
    except IndexError:
        return False
    return False


def _read_varint(encoded: bytes, position: int) -> tuple[int, int]:
    """A number, and the place behind it. Raises IndexError at the end."""
    value = shift = 0
    while (byte := encoded[position]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    return value | byte << shift, position + 1
