"""How a builder of `calls` becomes a method of a client: its own parameters, its documentation, and its result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from google.protobuf.message import Message

from bertapi.calls import Call

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
MethodT = TypeVar("MethodT", bound=Callable[..., object])


class Sender(Protocol):
    """A client whose methods block."""

    def fetch(self, call: Call[object]) -> Message:
        """Send a call and return the response message. Raises BertError."""


class AsyncSender(Protocol):
    """A client whose methods are coroutines."""

    async def fetch(self, call: Call[object]) -> Message:
        """Send a call and return the response message. Raises BertError."""


def method(build: Callable[P, Call[ResultT]]) -> Callable[Concatenate[Sender, P], ResultT]:
    """The blocking method that sends what `build` makes of its arguments."""

    @functools.wraps(build)
    def send(client: Sender, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        call = build(*args, **kwargs)
        return call.read(client.fetch(call))

    return _signed(send, build)


def async_method(
    build: Callable[P, Call[ResultT]],
) -> Callable[Concatenate[AsyncSender, P], Coroutine[Any, Any, ResultT]]:
    """The coroutine method that sends what `build` makes of its arguments."""

    @functools.wraps(build)
    async def send(client: AsyncSender, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        call = build(*args, **kwargs)
        return call.read(await client.fetch(call))

    return _signed(send, build)


def documented_by(build: Callable[..., object]) -> Callable[[MethodT], MethodT]:
    """For methods that are more than a call: the builder's text and parameters, and a result of their own."""

    def sign(own: MethodT) -> MethodT:
        result = inspect.signature(own).return_annotation
        functools.update_wrapper(own, build)
        signed = _signed(own, build)
        signed.__signature__ = signed.__signature__.replace(return_annotation=result)  # type: ignore[attr-defined]
        return signed

    return sign


def _signed(signed: MethodT, build: Callable[..., object]) -> MethodT:
    """Make `help` show the builder's parameters after `self`, and the result in place of the call that gives it."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    signature = inspect.signature(build)
    result = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    shown = signature.replace(parameters=[own, *signature.parameters.values()], return_annotation=result)
    signed.__signature__ = shown  # type: ignore[attr-defined]
    return signed
