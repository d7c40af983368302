"""OpenTelemetry, where it is switched on: a span a call, within it one for every stage of a unary one.

Stages follow each other: `tokenize`; `queue`, until a lane takes the request's first batch; `infer`, until its last
batch has run, waits in between included; `finish`, until the answer is made. What lanes finish before the last batch
has run lies within `infer`, so that `finish` may be shorter than the answer's own `finish_seconds`, which is an
attribute of it. A stream is one span, with the counts of its messages.

Where spans go, and which are sampled, the standard OTEL_* variables say. `traceparent` (W3C Trace Context) is honoured.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, cast

import grpc

from bertserve.doors.call import ANSWERED
from bertserve.doors.grpc.calls import METADATA, Context
from bertserve.doors.grpc.handlers import STREAM_STREAM, UNARY_STREAM, UNARY_UNARY, Handler, error_code, kind_of

try:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImportError("tracing needs the extra: pip install 'bertserve[otel]'") from error

# Each begins where the one before ends; `finish` takes the rest.
MEASURED_STAGES = ("tokenize", "queue", "infer")

# As the conventions for gRPC servers have it, these are the server's fault; what else goes wrong is the caller's.
SERVER_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class TracingLink:
    """Makes spans of calls, and sends them from a thread of its own."""

    def __init__(self) -> None:
        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("bertserve")
        self._propagator = TraceContextTextMapPropagator()

    def stop(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    def wrap(self, path: str, handler: Handler) -> Handler:
        kind = kind_of(handler, UNARY_UNARY, UNARY_STREAM, STREAM_STREAM)
        if kind == UNARY_STREAM:
            return handler
        return self._trace_unary(path, handler) if kind == UNARY_UNARY else self._trace_stream(path, handler)

    def _trace_unary(self, path: str, handler: Handler) -> Handler:
        respond = cast("Any", handler.unary_unary)  # typed for synchronous servers

        async def traced(request: Any, context: Context) -> Any:
            with self._span(path, context) as span:
                response = await respond(request, context)
                self._add_stages(span)
                return response

        return grpc.unary_unary_rpc_method_handler(traced, handler.request_deserializer, handler.response_serializer)

    def _trace_stream(self, path: str, handler: Handler) -> Handler:
        respond = cast("Any", handler.stream_stream)

        async def traced(requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any]:
            request_count = response_count = 0

            async def counted() -> AsyncGenerator[Any]:
                nonlocal request_count
                async for request in requests:
                    request_count += 1
                    yield request

            with self._span(path, context) as span:
                try:
                    async with aclosing(respond(counted(), context)) as responses:
                        async for response in responses:
                            response_count += 1
                            yield response
                finally:
                    span.set_attribute("bertserve.requests", request_count)
                    span.set_attribute("bertserve.responses", response_count)

        return grpc.stream_stream_rpc_method_handler(
            cast("Any", traced), handler.request_deserializer, handler.response_serializer
        )

    @contextmanager
    def _span(self, path: str, context: Context) -> Iterator[Span]:
        _, service, method = path.split("/")
        carrier = {key: value for key, value in METADATA.get().items() if isinstance(value, str)}
        span = self._tracer.start_span(
            f"{service}/{method}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        started = time.monotonic()
        code = grpc.StatusCode.OK
        try:
            yield span
        except BaseException as error:
            code = error_code(error, context, time.monotonic() - started)
            raise
        finally:
            span.set_attribute("rpc.grpc.status_code", int(code.value[0]))
            if code in SERVER_FAULTS:
                span.set_status(StatusCode.ERROR)
            span.end()

    def _add_stages(self, span: Span) -> None:
        """From the answer's own timings, once it is made. What took no time has none: tokens alone are not queued."""
        answered = ANSWERED.get()
        if answered is None or not span.is_recording():
            return
        span.set_attribute("bertserve.model", answered.model)
        parent = set_span_in_context(span)
        ended = time.time_ns()
        began = ended - int((time.monotonic() - answered.started) * 1e9)
        for stage in MEASURED_STAGES:
            if seconds := getattr(answered.timings, f"{stage}_seconds"):
                end = min(began + int(seconds * 1e9), ended)
                self._tracer.start_span(stage, context=parent, start_time=began).end(end)
                began = end
        attributes = {"bertserve.finish_seconds": answered.timings.finish_seconds}
        self._tracer.start_span("finish", context=parent, start_time=began, attributes=attributes).end(ended)
