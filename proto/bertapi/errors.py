"""What a call can fail with, in the caller's terms: a status, a message, the fields at fault, and when to try again.

Owns the reading of google.rpc error details. Knows nothing of requests, results or channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

# What gRPC says of a message beyond its reader's limit: who reads, the size found, the size allowed.
TOO_LARGE = re.compile(r"(CLIENT|SERVER): Received message larger than max \((\d+) vs\. (\d+)\)")

# Where an error names an input of the request.
INDEX = re.compile(r"^(inputs|candidates)\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Violation:
    """field: path of the field at fault in the request, such as `inputs[17].text`."""

    field: str
    description: str


class BertError(Exception):
    """A call that failed. It pickles and copies with all that it holds, so that it comes back from a process pool.

    code: the gRPC status. message: what the server, or gRPC itself, says. violations: the fields at fault, for
    InvalidInputError. retry_after_seconds: when the server suggests another attempt, for OverloadedError; else None.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        violations: Iterable[Violation] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception would call the class with the one text that it was given, which is not what the class takes.
        return _remake, (type(self), self.args), self.__dict__


def _remake(kind: type[BertError], arguments: tuple[Any, ...]) -> BertError:
    """An error without its attributes, which pickle and copy set next."""
    return kind.__new__(kind, *arguments)


class InvalidInputError(BertError):
    """INVALID_ARGUMENT: the request itself is at fault; sending it again changes nothing."""


class MissingHeadError(BertError):
    """FAILED_PRECONDITION: the model cannot compute what was asked."""


class UnknownModelError(BertError):
    """NOT_FOUND: no model is served under that name."""


class OverloadedError(BertError):
    """RESOURCE_EXHAUSTED: the server has no room for the call now; `retry_after_seconds` says when to call again."""


class TooLargeError(BertError):
    """RESOURCE_EXHAUSTED: the request is larger than the server takes, or the answer larger than this client takes.
    The same call fails again; the message says how large each may be and how to change that."""


class UnavailableError(BertError):
    """UNAVAILABLE: no server reached, or none ready, after the retries of the service config."""


class DeadlineError(BertError):
    """DEADLINE_EXCEEDED: no answer within the call's timeout."""


class UnauthenticatedError(BertError):
    """UNAUTHENTICATED: the server wants a bearer token, or another one."""


class MalformedResponseError(BertError):
    """An answer that contradicts the API, such as a tensor whose bytes do not fill its shape."""

    def __init__(self, message: str) -> None:
        super().__init__(grpc.StatusCode.INTERNAL, message)


ERRORS: dict[grpc.StatusCode, type[BertError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.FAILED_PRECONDITION: MissingHeadError,
    grpc.StatusCode.NOT_FOUND: UnknownModelError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
}


class FailedCall(Protocol):
    """What grpc's and grpc.aio's errors have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def read_error(error: grpc.RpcError, proxy: str = "", first: int = 0, alone: str = "") -> BertError:
    """The failure of a call, with its google.rpc details. Details that cannot be read are left out.

    proxy: the environment variable whose HTTP proxy the call went to; empty if it went to the server itself.
    first: index, in the caller's list, of the request's first input. The fields at fault are the caller's.
    alone: what the request's only input is called, if no smaller request can have it.
    """
    failed = cast("FailedCall", error)
    code, message = failed.code(), _shift(failed.details() or "", first)
    too_large = TOO_LARGE.search(message) if code is grpc.StatusCode.RESOURCE_EXHAUSTED else None
    if too_large is not None:
        return TooLargeError(code, _describe_size(*too_large.groups(), alone=alone))
    if proxy and code is grpc.StatusCode.UNAVAILABLE:
        message += f" (called through the HTTP proxy of the environment's {proxy})"
    status = _read_status(failed)
    return ERRORS.get(code, BertError)(code, message, _violations(status, first), _retry_after_seconds(status))


def _describe_size(reader: str, found: str, allowed: str, *, alone: str) -> str:
    if reader == "CLIENT":
        return (
            f"the answer has {found} bytes, this client takes {allowed}; ask for less at a time, or raise the client's "
            "max_response_bytes"
        )
    if alone:
        return (
            f"{alone} is too large by itself: the request has {found} bytes, the server takes {allowed}; shorten it, "
            "or raise the server's --max-request-bytes"
        )
    return (
        f"the request has {found} bytes, the server takes {allowed}; send fewer or shorter inputs at a time, send "
        "them as a stream (StreamAnalyze, `bertcall stream`), or raise the server's --max-request-bytes"
    )


def _read_status(failed: FailedCall) -> status_pb2.Status:
    try:
        return rpc_status.from_call(failed) or status_pb2.Status()
    except (ValueError, DecodeError):  # a proxy rewrote the status: the code and the message still hold
        return status_pb2.Status()


def _violations(status: status_pb2.Status, first: int) -> list[Violation]:
    found: list[Violation] = []
    for detail in status.details:
        bad_request = error_details_pb2.BadRequest()
        if detail.Is(bad_request.DESCRIPTOR) and detail.Unpack(bad_request):
            found += [
                Violation(_shift(field.field, first), field.description) for field in bad_request.field_violations
            ]
    return found


def _shift(text: str, first: int) -> str:
    """The same, if it begins with an index within a portion, with that of the whole list."""
    return INDEX.sub(lambda match: f"{match[1]}[{int(match[2]) + first}]", text)


def _retry_after_seconds(status: status_pb2.Status) -> float | None:
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            return float(retry.retry_delay.ToNanoseconds()) / 1e9
    return None
