"""Who may call: bearer tokens, before anything of the request is received."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import grpc

from bertserve.doors.grpc.calls import Context
from bertserve.doors.grpc.handlers import Continuation, Handler
from bertserve.doors.grpc.refusal import count_refused
from bertserve.doors.tokens import Tokens
from bertserve.observe.metrics import Metrics

# Probes of a cluster have no token, and learn no more than whether the server serves.
OPEN_PREFIX = "/grpc.health.v1.Health/"


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """UNAUTHENTICATED without a valid token, for every method but those of health."""

    def __init__(self, tokens: Tokens, metrics: Metrics) -> None:
        self._tokens = tokens
        self._metrics = metrics

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None or str(details.method).startswith(OPEN_PREFIX):
            return handler
        metadata = dict(details.invocation_metadata)
        if self._tokens.are_shown_by(metadata.get("authorization")):
            return handler
        count_refused(self._metrics, str(details.method), handler, grpc.StatusCode.UNAUTHENTICATED)
        return _REFUSAL


async def _refuse(_: Any, context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid bearer token is needed: authorization: Bearer TOKEN")


# Whatever the kind of the method: neither its request nor an answer ever comes.
_REFUSAL: Handler = grpc.stream_unary_rpc_method_handler(cast("Any", _refuse))  # typed for synchronous servers
