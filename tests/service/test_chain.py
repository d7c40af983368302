"""The chain of links around every method's handler: its order, and the kinds of handlers that it takes."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest
from bertserve.doors.grpc.chain import assembly
from bertserve.doors.grpc.chain.assembly import Chain, build_chain, wrap
from bertserve.doors.grpc.chain.codec import CodecLink
from bertserve.doors.grpc.handlers import STREAM_UNARY, Handler, kind_of
from bertserve.drain import Drain
from bertserve.observe.metrics import Metrics
from bertserve.settings import Settings

METHOD = "/bertapi.v1.BertService/Embed"
OPTIONAL = {"authentication", "tracing"}


@pytest.fixture
def links() -> list[Any]:
    chain = build_chain(Settings(), Metrics(), Drain(), {}, tokens=None, tracing=None)
    return list(chain.links)


def respond(request: Any, _: Any) -> Any:
    return request


def unary_handler() -> Handler:
    return grpc.unary_unary_rpc_method_handler(respond)


def test_the_table_lists_the_links_in_their_order(links: list[Any]) -> None:
    """The table that a reader sees first is the chain that every call passes."""
    listed = re.findall(r"^    (\w+) +\w", assembly.__doc__ or "", re.MULTILINE)[1:]
    modules = [type(link).__module__.rpartition(".")[2] for link in links]
    assert [name for name in listed if name not in OPTIONAL | {"unary_stream"}] == modules
    assert set(listed) >= OPTIONAL


def test_a_unary_method_becomes_one_whose_request_is_yet_to_be_received(links: list[Any]) -> None:
    """The server then decides when to receive."""
    assert kind_of(wrap(links, METHOD, unary_handler()), STREAM_UNARY) == STREAM_UNARY


def test_links_in_a_wrong_order_are_refused(links: list[Any]) -> None:
    """A link names the kinds it takes, so no method is left unwrapped in silence."""
    with pytest.raises(TypeError, match="stream_unary stands where the chain expects unary_unary"):
        wrap([CodecLink(10), *links], METHOD, unary_handler())


class CountingLink:
    def __init__(self) -> None:
        self.wrapped: list[str] = []

    def wrap(self, path: str, handler: Handler) -> Handler:
        self.wrapped.append(path)
        return handler


class Details:
    """The facts of a call that gRPC hands to interceptors."""

    invocation_metadata = (("a", "b"),)

    def __init__(self, method: str) -> None:
        self.method = method


async def test_each_method_is_wrapped_once() -> None:
    """A call costs a look-up."""
    link, handler = CountingLink(), unary_handler()

    async def find(_: Any) -> Handler:
        return handler

    chain = Chain([link])
    for path in (METHOD, "/other/Method", METHOD):
        assert await chain.intercept_service(find, Details(path)) is handler  # type: ignore[arg-type]
    assert link.wrapped == [METHOD, "/other/Method"]


async def test_methods_that_are_not_served_are_not_kept() -> None:
    """Clients choose their names, so there may be any number of them."""
    chain = Chain([CountingLink()])

    async def find(_: Any) -> None:
        return None

    assert await chain.intercept_service(find, Details("/any/Name")) is None  # type: ignore[arg-type]
    assert not chain.paths
