"""OpenTelemetry, where it is switched on: a span a call, and within it one for every stage that its answer names.

Where spans go, and which are sampled, the standard OTEL_* variables say. `traceparent` (W3C Trace Context) is honoured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import grpc

from bertserve.calls import ANSWERED
from bertserve.interceptors import Context, Continuation, Handler, end_code, error_code

try:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImportError("tracing needs the extra: pip install 'bertserve[otel]'") from error

STAGES = ("tokenize", "queue", "infer", "finish")

# As the conventions for gRPC servers have it, these are the server's fault; what else goes wrong is the caller's.
SERVER_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Makes spans of unary calls, and sends them from a thread of its own."""

    def __init__(self) -> None:
        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("bertserve")
        self._propagator = TraceContextTextMapPropagator()

    def stop(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        respond = cast("Any", handler.unary_unary)  # typed for synchronous servers
        carrier = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}
        path = str(details.method)

        async def traced(request: Any, context: Context) -> Any:
            with self._span(path, carrier, context) as span:
                began = time.time_ns()
                response = await respond(request, context)
                self._add_stages(span, began)
                return response

        return grpc.unary_unary_rpc_method_handler(traced, handler.request_deserializer, handler.response_serializer)

    @contextmanager
    def _span(self, path: str, carrier: dict[str, str], context: Context) -> Iterator[Span]:
        _, service, method = path.split("/")
        span = self._tracer.start_span(
            f"{service}/{method}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        started = time.monotonic()
        code = grpc.StatusCode.UNKNOWN
        try:
            yield span
            code = end_code(context)
        except BaseException as error:
            code = error_code(error, context, time.monotonic() - started)
            raise
        finally:
            span.set_attribute("rpc.grpc.status_code", int(code.value[0]))
            if code in SERVER_FAULTS:
                span.set_status(StatusCode.ERROR)
            span.end()

    def _add_stages(self, span: Span, began: int) -> None:
        """From the answer's own timings: the first stages follow each other from the start, the last one ends now."""
        answered = ANSWERED.get()
        if answered is None or not span.is_recording():
            return
        span.set_attribute("bertserve.model", answered.model)
        parent = set_span_in_context(span)
        ended = time.time_ns()
        for stage in STAGES:
            nanoseconds = int(getattr(answered.timings, f"{stage}_seconds") * 1e9)
            start = began if stage != "finish" else ended - nanoseconds
            self._tracer.start_span(stage, context=parent, start_time=start).end(start + nanoseconds)
            began = start + nanoseconds
