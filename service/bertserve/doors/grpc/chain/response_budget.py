"""Bounds the answers that wait for their clients to read them."""

from __future__ import annotations

from typing import Any, cast

import grpc

from bertserve.doors.grpc.calls import Context, when_done
from bertserve.doors.grpc.handlers import STREAM_STREAM, UNARY_STREAM, UNARY_UNARY, Handler, Respond, kind_of
from bertserve.doors.grpc.intake.unread_responses import UnreadResponses
from bertserve.errors import Overloaded
from bertserve.observe.metrics import Metrics


class ResponseBudgetLink:
    """Refuses an answer that finds no room among those that are not read yet. A stream bounds its own answers."""

    def __init__(self, unread: UnreadResponses, metrics: Metrics) -> None:
        self._unread = unread
        self._rejected = metrics.rejected.labels("", "queue_full")

    def wrap(self, path: str, handler: Handler) -> Handler:  # noqa: ARG002 - every method alike
        if kind_of(handler, UNARY_UNARY, UNARY_STREAM, STREAM_STREAM) != UNARY_UNARY:
            return handler
        respond: Respond = cast("Any", handler.unary_unary)  # typed for synchronous servers

        async def bounded(request: Any, context: Context) -> bytes:
            answer: bytes = await respond(request, context)
            self._hold(context, len(answer))
            return answer

        return grpc.unary_unary_rpc_method_handler(bounded, None, None)

    def _hold(self, context: Context, size: int) -> None:
        """Take the room of an answer until its last byte is sent. Raises Overloaded if there is none."""
        try:
            give_back = self._unread.put(context.peer(), size)
        except Overloaded:
            self._rejected.inc()
            raise
        when_done(context, give_back)
        if context.cancelled():
            give_back()
