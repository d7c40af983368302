"""Large requests as several that a server takes, and their responses as one. Pure; nothing is sent here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from bertapi.errors import BertError

# A server's default limits (its --max-request-bytes and --max-inputs). A server does not tell the limits that it has.
LARGEST_REQUEST_BYTES = 4 * 2**20
MAX_INPUTS = 1024

# Names of the list of inputs. A request has one of them, or no list.
LISTS = ("inputs", "candidates")

# Upper bound of an item's bytes beside its content: a tag of one byte, and the size.
ITEM_OVERHEAD_BYTES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """A request of its own. first: index, in the whole list, of its first input.

    alone: the input's name in the whole list, such as `inputs[3]`, if it is the only one of the request and larger than
    a request may be; else empty.
    """

    request: Message
    first: int
    alone: str = ""


def split(request: Any, largest_bytes: int = LARGEST_REQUEST_BYTES, max_inputs: int = MAX_INPUTS) -> Iterator[Portion]:
    """Yield the request itself if it is no larger than that, else requests that each have a part of its list, in order.

    An input that is larger by itself is the only one of its request: the server decides whether to take it.
    """
    name = next((name for name in LISTS if name in request.DESCRIPTOR.fields_by_name), None)
    items = getattr(request, name) if name is not None else ()
    if name is None or (request.ByteSize() <= largest_bytes and len(items) <= max_inputs):
        yield Portion(request=request, first=0)
        return
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField(name)
    room = largest_bytes - rest.ByteSize()
    sizes = [_size(item) for item in items]
    for first, end in cut(sizes, room, max_inputs):
        part = type(request)()
        part.CopyFrom(rest)
        getattr(part, name).extend(items[first:end])
        yield Portion(request=part, first=first, alone=f"{name}[{first}]" if sizes[first] > room else "")


def cut(sizes: Sequence[int], largest: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield ranges that cover all sizes in order. Each has one at least, and as many as its sum and `most` allow."""
    first = total = 0
    for index, size in enumerate(sizes):
        if index > first and (total + size > largest or index - first == most):
            yield first, index
            first, total = index, 0
        total += size
    if sizes:
        yield first, len(sizes)


def join(answers: Sequence[Any]) -> Message:
    """Return one response with the results of all, in order, and the sum of their times.

    Raises BertError (ABORTED) if they are of different bundles, because their results cannot be compared.
    """
    whole, *others = answers
    for answer in others:
        if answer.info.bundle_id != whole.info.bundle_id:
            reason = "the model was replaced between the requests of this call; call again"
            raise BertError(grpc.StatusCode.ABORTED, reason)
        for field in whole.info.timings.DESCRIPTOR.fields:
            spent, more = (getattr(each.info.timings, field.name) for each in (whole, answer))
            spent.FromNanoseconds(spent.ToNanoseconds() + more.ToNanoseconds())
        answer.ClearField("info")
        whole.MergeFrom(answer)
    assert isinstance(whole, Message)  # noqa: S101 - tells the type checker
    return whole


def _size(item: Any) -> int:
    return ITEM_OVERHEAD_BYTES + (len(item.encode()) if isinstance(item, str) else item.ByteSize())
