"""The one table from errors to statuses, by the names that gRPC and HTTP give them. It needs no library of either."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from bertserve.errors import (
    DeadlinePassed,
    EngineUnavailable,
    InvalidInput,
    MissingHead,
    Overloaded,
    RequestError,
    Undecodable,
    UnknownModel,
)


@dataclass(frozen=True, slots=True)
class Status:
    """One outcome of a call. grpc: name of a gRPC status code, such as `NOT_FOUND`."""

    grpc: str
    http: HTTPStatus


# Every error that a client can be told. An error that is missing here is a bug: INTERNAL, with a fixed text.
STATUSES: dict[type[RequestError], Status] = {
    Undecodable: Status("INVALID_ARGUMENT", HTTPStatus.BAD_REQUEST),
    InvalidInput: Status("INVALID_ARGUMENT", HTTPStatus.BAD_REQUEST),
    MissingHead: Status("FAILED_PRECONDITION", HTTPStatus.BAD_REQUEST),
    UnknownModel: Status("NOT_FOUND", HTTPStatus.NOT_FOUND),
    Overloaded: Status("RESOURCE_EXHAUSTED", HTTPStatus.TOO_MANY_REQUESTS),
    DeadlinePassed: Status("DEADLINE_EXCEEDED", HTTPStatus.GATEWAY_TIMEOUT),
    EngineUnavailable: Status("UNAVAILABLE", HTTPStatus.SERVICE_UNAVAILABLE),
}
INTERNAL = Status("INTERNAL", HTTPStatus.INTERNAL_SERVER_ERROR)
INTERNAL_TEXT = "internal error; the server's log holds its trace"


def find_status(error: Exception) -> Status:
    """Return the status of a call, or of one input of a stream, that ended with this error."""
    return STATUSES[type(error)] if isinstance(error, RequestError) else INTERNAL
