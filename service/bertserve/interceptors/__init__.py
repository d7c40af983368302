"""Around every call: counting, decoding, refusing while draining, and the one table from errors to statuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from bertserve.deadlines import has_passed
from bertserve.errors import EngineUnavailable, InvalidInput, Overloaded, RequestError
from bertserve.interceptors.decoding import FEW_FIELDS, decode
from bertserve.interceptors.frames import forget_frames
from bertserve.logs import log_failure
from bertserve.metrics import Metrics
from bertserve.statuses import INTERNAL_TEXT, STATUSES

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
RespondStream: TypeAlias = Callable[[AsyncIterator[Any], Context], AsyncGenerator[Any]]

# Wrapped handlers kept, for a call need not wrap its method's anew; there are as many as methods.
KEPT_HANDLERS = 64


class OpenCalls:
    """Calls of our services under way, and whether new ones are still wanted (`is_leaving`) and let in (`draining`)."""

    def __init__(self) -> None:
        self.count = 0
        self.is_leaving = False
        self.draining = asyncio.Event()
        self._last_arrival = time.monotonic()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def enter(self) -> Callable[[], None]:
        """Count a call in; what comes back counts it out, once. Raises EngineUnavailable while draining."""
        self._last_arrival = time.monotonic()
        if self.draining.is_set():
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
    """go-grpc-prometheus's series for every method of our services, streaming ones included."""

    def __init__(self, metrics: Metrics, services: dict[str, dict[str, str]]) -> None:
        """services: full name → method → its grpc_type; their series start at zero."""
        self._series = {
            f"/{service}/{method}": _RpcSeries(metrics, (grpc_type, service, method))
            for service, methods in services.items()
            for method, grpc_type in methods.items()
        }
        self._metrics = metrics
        self._observe = lru_cache(KEPT_HANDLERS)(self._observe)  # type: ignore[method-assign]

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        return handler if handler is None else self._observe(str(details.method), handler)

    def _observe(self, path: str, handler: Handler) -> Handler:
        if handler.unary_unary is not None:
            return _observe_unary(self._series_of(path), handler)
        if handler.stream_stream is not None and path in self._series:
            return _observe_stream(self._series[path], handler)
        return handler

    def _series_of(self, path: str) -> _RpcSeries:
        if path not in self._series:
            _, service, method = path.split("/")
            self._series[path] = _RpcSeries(self._metrics, ("unary", service, method))
        return self._series[path]


class _RpcSeries:
    """The series of one method, looked up once."""

    def __init__(self, metrics: Metrics, labels: tuple[str, str, str]) -> None:
        self.started = metrics.rpc_started.labels(*labels)
        self.seconds = metrics.rpc_seconds.labels(*labels)
        self.handled = {code: metrics.rpc_handled.labels(*labels, CODE_LABELS[code]) for code in grpc.StatusCode}

    def end(self, code: grpc.StatusCode, seconds: float) -> None:
        self.handled[code].inc()
        self.seconds.observe(seconds)


def _observe_unary(series: _RpcSeries, handler: Handler) -> Handler:
    respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers

    async def observed(request: Any, context: Context) -> Any:
        started = time.monotonic()
        series.started.inc()
        code = grpc.StatusCode.OK
        try:
            return await respond(request, context)
        except BaseException as error:
            code = end_code(error, context, time.monotonic() - started)
            raise
        finally:
            series.end(code, time.monotonic() - started)

    return grpc.unary_unary_rpc_method_handler(observed, handler.request_deserializer, handler.response_serializer)


def _observe_stream(series: _RpcSeries, handler: Handler) -> Handler:
    respond: RespondStream = cast("Any", handler.stream_stream)

    async def observed(requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any]:
        started = time.monotonic()
        series.started.inc()
        code = grpc.StatusCode.OK
        try:
            async with aclosing(respond(requests, context)) as responses:
                async for response in responses:
                    yield response
        except BaseException as error:
            code = end_code(error, context, time.monotonic() - started)
            raise
        finally:
            series.end(code, time.monotonic() - started)

    return grpc.stream_stream_rpc_method_handler(
        cast("Any", observed), handler.request_deserializer, handler.response_serializer
    )


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Decodes requests of our services, and turns every error into its status with details a program can read."""

    def __init__(self, open_calls: OpenCalls, metrics: Metrics, services: Iterable[str], max_inputs: int) -> None:
        """services: full names. max_inputs: of a request."""
        self._open_calls = open_calls
        self._metrics = metrics
        self._prefixes = tuple(f"/{service}/" for service in services)
        self._most_fields = max(FEW_FIELDS, 2 * max_inputs)
        self._answer = lru_cache(KEPT_HANDLERS)(self._answer)  # type: ignore[method-assign]

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None or not str(details.method).startswith(self._prefixes):
            return handler
        return self._answer(handler)

    def _answer(self, handler: Handler) -> Handler:
        return self._answer_unary(handler) if handler.unary_unary is not None else self._answer_stream(handler)

    def _answer_unary(self, handler: Handler) -> Handler:
        respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers
        parse = handler.request_deserializer

        async def answered(request: bytes, context: Context) -> Any:
            leave = await self._enter(context)
            try:
                return await respond(decode(parse, request, self._most_fields), context)
            except Exception as error:
                await abort(context, error)
            finally:
                if context.cancelled():  # perhaps before the callback was there
                    leave()

        return grpc.unary_unary_rpc_method_handler(answered, None, handler.response_serializer)

    def _answer_stream(self, handler: Handler) -> Handler:
        respond: RespondStream = cast("Any", handler.stream_stream)
        parse = handler.request_deserializer

        async def answered(requests: AsyncIterator[bytes], context: Context) -> AsyncGenerator[Any]:
            leave = await self._enter(context)
            decoded = (decode(parse, request, self._most_fields) async for request in requests)
            try:
                async with aclosing(respond(decoded, context)) as responses:
                    async for response in responses:
                        yield response
            except Exception as error:
                await abort(context, error)
            finally:
                if context.cancelled():
                    leave()

        return grpc.stream_stream_rpc_method_handler(cast("Any", answered), None, handler.response_serializer)

    async def _enter(self, context: Context) -> Callable[[], None]:
        """Count the call in, until its last byte is sent rather than until its handler returns."""
        try:
            leave = self._open_calls.enter()
        except EngineUnavailable as error:
            self._metrics.rejected.labels("", "draining").inc()
            await abort(context, error)
        context.add_done_callback(cast("Any", lambda _: leave()))
        return leave


async def abort(context: Context, error: Exception) -> NoReturn:
    """End the call with the error's status and details."""
    if not isinstance(error, RequestError):  # a bug: tell the caller nothing, the log everything
        log_failure("a call failed", error)
        await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
    forget_frames(error)
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


def end_code(error: BaseException, context: Context, seconds: float) -> grpc.StatusCode:
    """The status of a call that ended with an error after so long."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        remaining = context.time_remaining()
        is_late = remaining is not None and has_passed(remaining, seconds)
        return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
    return _set_code(context) or grpc.StatusCode.UNKNOWN


def _set_code(context: Context) -> grpc.StatusCode | None:
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next((status for status in grpc.StatusCode if status.value[0] == code), None)
