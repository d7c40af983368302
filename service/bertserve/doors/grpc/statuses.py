"""The one table from errors to statuses, for whole calls and for single inputs of a stream."""

from __future__ import annotations

import grpc

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

# Everything that a caller can be told; what is not here is a bug, INTERNAL with a fixed text.
STATUSES: dict[type[RequestError], grpc.StatusCode] = {
    Undecodable: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    MissingHead: grpc.StatusCode.FAILED_PRECONDITION,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    EngineUnavailable: grpc.StatusCode.UNAVAILABLE,
}
INTERNAL_TEXT = "internal error; the server's log holds its trace"
