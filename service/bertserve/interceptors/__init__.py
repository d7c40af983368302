"""Around every call: counting, decoding, refusing while draining, and the one table from errors to statuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

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
from bertserve.logs import log_failure
from bertserve.metrics import Metrics

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

BERT_SERVICE = "bertapi.v1.BertService"

# As go-grpc-prometheus spells them.
CODE_LABELS = {code: "".join(part.capitalize() for part in code.name.split("_")) for code in grpc.StatusCode} | {
    grpc.StatusCode.OK: "OK",
    grpc.StatusCode.CANCELLED: "Canceled",
}

# Quoted: the classes take parameters in their stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Respond: TypeAlias = Callable[[Any, Context], Awaitable[Any]]


class OpenCalls:
    """The BertService calls under way, and whether new ones are still let in."""

    def __init__(self) -> None:
        self.count = 0
        self.is_draining = False
        self._last_arrival = time.monotonic()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def enter(self) -> Callable[[], None]:
        """Count a call in; what comes back counts it out, once. Raises EngineUnavailable while draining."""
        self._last_arrival = time.monotonic()
        if self.is_draining:
            raise EngineUnavailable("the server is draining; call another replica")
        self.count += 1
        self._none_left.clear()
        is_open = True

        def leave() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self.count -= 1
                if self.count == 0:
                    self._none_left.set()

        return leave

    async def wait_for_none(self, timeout_seconds: float) -> bool:
        """Whether all calls ended in time."""
        try:
            await asyncio.wait_for(self._none_left.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    async def wait_for_quiet(self, quiet_seconds: float, timeout_seconds: float) -> None:
        """Until nobody has called for a while, so that what is on its way is still refused by status.

        gRPC cancels calls that a stopping server received but did not accept yet, and CANCELLED is not retried
        (grpc/grpc issue 41785).
        """
        ends = time.monotonic() + timeout_seconds
        # Every call moves the end, so that no single event says when it has come.
        while (left := min(ends, self._last_arrival + quiet_seconds) - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)


class MetricsInterceptor(grpc.aio.ServerInterceptor):
    """go-grpc-prometheus's series for every method, streaming ones included."""

    def __init__(self, metrics: Metrics, services: dict[str, tuple[str, ...]]) -> None:
        """services: full name → methods, whose series start at zero."""
        self._metrics = metrics
        for service, methods in services.items():
            for method in methods:
                labels = ("unary", service, method)
                metrics.rpc_started.labels(*labels)
                metrics.rpc_seconds.labels(*labels)
                for code in CODE_LABELS.values():
                    metrics.rpc_handled.labels(*labels, code)

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        _, service, method = str(details.method).split("/")
        labels = ("unary", service, method)
        respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers

        async def observed(request: Any, context: Context) -> Any:
            started = time.monotonic()
            self._metrics.rpc_started.labels(*labels).inc()
            code = grpc.StatusCode.OK
            try:
                return await respond(request, context)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except BaseException:
                code = set_code(context) or grpc.StatusCode.UNKNOWN
                raise
            finally:
                self._metrics.rpc_handled.labels(*labels, CODE_LABELS[code]).inc()
                self._metrics.rpc_seconds.labels(*labels).observe(time.monotonic() - started)

        return grpc.unary_unary_rpc_method_handler(observed, handler.request_deserializer, handler.response_serializer)


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Decodes BertService requests, and turns every error into its status with details a program can read."""

    def __init__(self, open_calls: OpenCalls, metrics: Metrics) -> None:
        self._open_calls = open_calls
        self._metrics = metrics

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or not str(details.method).startswith(f"/{BERT_SERVICE}/"):
            return handler
        respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers
        decode = handler.request_deserializer

        async def answered(request: bytes, context: Context) -> Any:
            try:
                leave = self._open_calls.enter()
            except EngineUnavailable as error:
                self._metrics.rejected.labels("", "draining").inc()
                await abort(context, error)
            # A call is over once its last byte is sent, rather than when the handler returns.
            context.add_done_callback(cast("Any", lambda _: leave()))
            try:
                return await respond(_decode(decode, request), context)
            except RequestError as error:
                await abort(context, error)
            except Exception as error:  # a bug: tell the caller nothing, the log everything
                log_failure("a call failed", error)
                await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
            finally:
                if context.cancelled():  # perhaps before the callback was there
                    leave()

        return grpc.unary_unary_rpc_method_handler(answered, None, handler.response_serializer)


def _decode(decode: Callable[[bytes], Any] | None, request: bytes) -> Any:
    try:
        return decode(request) if decode is not None else request
    except (message.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable("the request is not a valid message of this method") from error


async def abort(context: Context, error: RequestError) -> NoReturn:
    """End the call with the error's status and details."""
    code = STATUSES[type(error)]
    details = _details(error)
    if isinstance(error, Overloaded):
        pushback = ("grpc-retry-pushback-ms", str(int(error.retry_after_seconds * 1000)))
        context.set_trailing_metadata((*context.trailing_metadata(), pushback))
    if not details:
        await context.abort(code, str(error))
    packed = [any_pb2.Any() for _ in details]
    for target, detail in zip(packed, details, strict=True):
        target.Pack(detail)
    rich = rpc_status.to_status(
        status_pb2.Status(code=code_pb2.Code.Value(code.name), message=str(error), details=packed)
    )
    await context.abort(rich.code, rich.details, (*context.trailing_metadata(), *rich.trailing_metadata))


def _details(error: RequestError) -> list[message.Message]:
    if isinstance(error, InvalidInput):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.violation.field, description=error.violation.description
        )
        return [error_details_pb2.BadRequest(field_violations=[violation])]
    if isinstance(error, Overloaded):
        delay = duration_pb2.Duration(nanos=0)
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        return [error_details_pb2.RetryInfo(retry_delay=delay)]
    return []


def set_code(context: Context) -> grpc.StatusCode | None:
    """What an aborted call was ended with."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next((status for status in grpc.StatusCode if status.value[0] == code), None)
