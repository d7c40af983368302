"""The refusal of a call: its status and details, its count, and what must not stay in memory because of it.

A refused call is aborted. A handler that sets a status and returns costs less, but answers with headers and an empty
message first, and no client or proxy tries a call again whose headers have come (gRFC A6, "trailers-only").
"""

from __future__ import annotations

from typing import NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.handlers import Handler
from bertserve.doors.grpc.statuses import CODE_LABELS, find_code
from bertserve.doors.statuses import INTERNAL_TEXT
from bertserve.errors import InvalidInput, Overloaded, RequestError
from bertserve.observe.logs import log_failure
from bertserve.observe.metrics import Metrics

# Where clients look for a google.rpc.Status (grpc/grpc: doc/statuscodes.md, "Richer error model").
DETAILS_KEY = "grpc-status-details-bin"


async def abort(context: Context, error: Exception) -> NoReturn:
    """End a call with the error's status and details."""
    _set_status(context, error)
    await context.abort(context.code())  # with what is set beside the code


def _set_status(context: Context, error: Exception) -> None:
    if not isinstance(error, RequestError):  # a bug: tell the caller nothing, the log everything
        log_failure("a call failed", error)
        context.set_code(find_code(error))
        context.set_details(INTERNAL_TEXT)
        return
    forget_frames(error)
    code, text = find_code(error), str(error)
    context.set_code(code)
    context.set_details(text)
    detail = _detail(error)
    if detail is None:
        return
    packed = any_pb2.Any()
    packed.Pack(detail)
    status = status_pb2.Status(code=code.value[0], message=text, details=[packed])
    metadata = [*context.trailing_metadata(), (DETAILS_KEY, status.SerializeToString())]
    if isinstance(error, Overloaded):
        metadata.append(("grpc-retry-pushback-ms", str(int(error.retry_after_seconds * 1000))))
    context.set_trailing_metadata(metadata)


def _detail(error: RequestError) -> message.Message | None:
    detail: message.Message | None = None
    if isinstance(error, InvalidInput):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.violation.field, description=error.violation.description
        )
        detail = error_details_pb2.BadRequest(field_violations=[violation])
    elif isinstance(error, Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        detail = error_details_pb2.RetryInfo(retry_delay=delay)
    return detail


def count_refused(metrics: Metrics, path: str, handler: Handler, code: grpc.StatusCode) -> None:
    """A call that ends before it comes here, refused by what stands further out."""
    _, service, method = path.split("/")
    labels = ("bidi_stream" if handler.response_streaming else "unary", service, method)
    metrics.rpc_started.labels(*labels).inc()
    metrics.rpc_handled.labels(*labels, CODE_LABELS[code]).inc()


def forget_frames(error: BaseException) -> None:
    """Of a call that was refused. gRPC's state of the call keeps the error, whose frames keep that state: the garbage
    collector would free them some gigabytes later."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
