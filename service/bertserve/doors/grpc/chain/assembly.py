"""The chain of links around every method's handler, outermost first.

    link             handler in → out                            refuses
    access           stream_unary, stream_stream → the same      nothing
    authentication   stream_unary, stream_stream → the same      calls without a valid token
    reception        unary_unary → stream_unary                  slow, too many and too large requests
                     unary_stream, stream_stream                 streams and watches above their limits
                     → stream_stream
    tracing          unary_unary, stream_stream → the same       nothing
    counting         unary_unary, stream_stream → the same       nothing
    errors           unary_unary, stream_stream → the same       nothing: it gives refusals from within their status
    draining         unary_unary, stream_stream → the same       calls of the services while the server drains
    response_budget  unary_unary of bytes → the same             answers that find no room to wait until they are read
    codec            unary_unary, stream_stream of messages      requests that are no messages, or have too many fields
                     → of bytes

The links from tracing inwards leave unary_stream, which is `Health.Watch`, as it is. Links from reception outwards see
calls whose request is yet to be received. Authentication and tracing are left out if they are switched off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc

from bertserve.doors.grpc.calls import METADATA
from bertserve.doors.grpc.chain.access import AccessLink
from bertserve.doors.grpc.chain.authentication import TokenLink
from bertserve.doors.grpc.chain.codec import CodecLink
from bertserve.doors.grpc.chain.counting import MetricsLink
from bertserve.doors.grpc.chain.draining import DrainLink
from bertserve.doors.grpc.chain.errors import ErrorLink
from bertserve.doors.grpc.chain.response_budget import ResponseBudgetLink
from bertserve.doors.grpc.handlers import Continuation, Handler, Link
from bertserve.doors.grpc.intake.decoding import FEW_FIELDS
from bertserve.doors.grpc.intake.reception import ReceptionLink
from bertserve.doors.grpc.intake.unread_responses import UnreadResponses
from bertserve.doors.tokens import Tokens
from bertserve.drain import Drain
from bertserve.observe.metrics import Metrics
from bertserve.settings import Settings

# Health watches, on average. A client that balances by health has one; a proxy passes on those of several clients.
WATCHES_PER_CONNECTION = 16

# Answers of the largest size, or more of smaller ones, that may wait for all clients together to read them.
UNREAD_ANSWERS = 4


class Chain(grpc.aio.ServerInterceptor):
    """gRPC's one interceptor of this server. It wraps each method once, so that a call costs a look-up."""

    def __init__(self, links: Sequence[Link]) -> None:
        """links: outermost first."""
        self.links = tuple(links)
        self._wrapped: dict[str, Handler] = {}

    @property
    def paths(self) -> list[str]:
        """Return the methods that were called so far."""
        return list(self._wrapped)

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        METADATA.set(dict(details.invocation_metadata))
        path = str(details.method)
        wrapped = self._wrapped.get(path)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None:
                return None
            wrapped = self._wrapped[path] = wrap(self.links, path, handler)
        return wrapped


def wrap(links: Sequence[Link], path: str, handler: Handler) -> Handler:
    """Return the handler within all links, of which the first becomes the outermost."""
    for link in reversed(links):
        handler = link.wrap(path, handler)
    return handler


def build_chain(
    settings: Settings,
    metrics: Metrics,
    drain: Drain,
    services: Mapping[str, Mapping[str, str]],
    *,
    tokens: Tokens | None,
    tracing: Link | None,
) -> Chain:
    """Put the links together. services: full name → method → its grpc_type; tokens, tracing: None = switched off."""
    reception = ReceptionLink(
        settings.pending_bytes, settings.max_request_bytes, settings.max_open_streams,
        WATCHES_PER_CONNECTION * settings.max_connections, metrics,
    )  # fmt: skip
    links: list[Link | None] = [
        AccessLink(),
        TokenLink(tokens, metrics) if tokens is not None else None,
        reception,
        tracing,
        MetricsLink(metrics, services),
        ErrorLink(),
        DrainLink(drain, metrics, services),
        ResponseBudgetLink(UnreadResponses(UNREAD_ANSWERS * settings.max_response_bytes), metrics),
        CodecLink(max(FEW_FIELDS, 2 * settings.max_inputs)),
    ]
    return Chain([link for link in links if link is not None])
