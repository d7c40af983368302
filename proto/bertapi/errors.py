"""What a call can fail with, in the caller's terms: a status, a message, the fields at fault, and when to try again.

Owns the reading of google.rpc error details. Knows nothing of requests, results or channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


@dataclass(frozen=True, slots=True)
class Violation:
    """field: path of the field at fault in the request, such as `inputs[17].text`."""

    field: str
    description: str


class BertError(Exception):
    """A call that failed.

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


class InvalidInputError(BertError):
    """INVALID_ARGUMENT: the request itself is at fault; sending it again changes nothing."""


class MissingHeadError(BertError):
    """FAILED_PRECONDITION: the model cannot compute what was asked."""


class UnknownModelError(BertError):
    """NOT_FOUND: no model is served under that name."""


class OverloadedError(BertError):
    """RESOURCE_EXHAUSTED: the server's queue is full, or a message is larger than allowed."""


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


def read_error(error: grpc.RpcError) -> BertError:
    """The failure of a call, with its google.rpc details. Details that cannot be read are left out."""
    failed = cast("FailedCall", error)
    status = _read_status(failed)
    return ERRORS.get(failed.code(), BertError)(
        failed.code(), failed.details() or "", _violations(status), _retry_after_seconds(status)
    )


def _read_status(failed: FailedCall) -> status_pb2.Status:
    try:
        return rpc_status.from_call(failed) or status_pb2.Status()
    except (ValueError, DecodeError):  # a proxy rewrote the status: the code and the message still hold
        return status_pb2.Status()


def _violations(status: status_pb2.Status) -> list[Violation]:
    found: list[Violation] = []
    for detail in status.details:
        bad_request = error_details_pb2.BadRequest()
        if detail.Is(bad_request.DESCRIPTOR) and detail.Unpack(bad_request):
            found += [Violation(field.field, field.description) for field in bad_request.field_violations]
    return found


def _retry_after_seconds(status: status_pb2.Status) -> float | None:
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            return float(retry.retry_delay.ToNanoseconds()) / 1e9
    return None
