"""How a builder of `calls` becomes a method of a client: its own parameters, its documentation, and its result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from bertapi.calls import Call

if TYPE_CHECKING:
    from bertapi.client import AsyncBertClient, BertClient

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
MethodT = TypeVar("MethodT", bound=Callable[..., object])


def method(build: Callable[P, Call[ResultT]]) -> Callable[Concatenate[BertClient, P], ResultT]:
    """The blocking method that sends what `build` makes of its arguments."""

    @functools.wraps(build)
    def send(client: BertClient, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        call = build(*args, **kwargs)
        return call.read(client.fetch(call))

    return _signed(send, build)


def async_method(
    build: Callable[P, Call[ResultT]],
) -> Callable[Concatenate[AsyncBertClient, P], Coroutine[Any, Any, ResultT]]:
    """The coroutine method that sends what `build` makes of its arguments."""

    @functools.wraps(build)
    async def send(client: AsyncBertClient, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
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
