"""Calls by method and status, and their time, as go-grpc-prometheus counts them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

import grpc

from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.handlers import (
    STREAM_STREAM,
    UNARY_STREAM,
    UNARY_UNARY,
    Handler,
    Respond,
    RespondStream,
    error_code,
    kind_of,
)
from bertserve.doors.grpc.statuses import CODE_LABELS
from bertserve.observe.metrics import Metrics


class MetricsLink:
    """go-grpc-prometheus's series for every method of our services, streaming ones included."""

    def __init__(self, metrics: Metrics, services: Mapping[str, Mapping[str, str]]) -> None:
        """services: full name → method → its grpc_type; their series start at zero."""
        self._series = {
            f"/{service}/{method}": _RpcSeries(metrics, (grpc_type, service, method))
            for service, methods in services.items()
            for method, grpc_type in methods.items()
        }
        self._metrics = metrics

    def wrap(self, path: str, handler: Handler) -> Handler:
        kind = kind_of(handler, UNARY_UNARY, UNARY_STREAM, STREAM_STREAM)
        if kind == UNARY_UNARY:
            return _observe_unary(self._series_of(path), handler)
        if kind == STREAM_STREAM and path in self._series:
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
            code = error_code(error, context, time.monotonic() - started)
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
            code = error_code(error, context, time.monotonic() - started)
            raise
        finally:
            series.end(code, time.monotonic() - started)

    return grpc.stream_stream_rpc_method_handler(
        cast("Any", observed), handler.request_deserializer, handler.response_serializer
    )
