"""How a server leaves: its stages, and the calls it waits for."""

from __future__ import annotations

import asyncio

import pytest
from bertserve.drain import Drain, Stage
from bertserve.errors import EngineUnavailable
from bertserve.serving import Readiness


@pytest.fixture
async def drain() -> Drain:
    return Drain()


async def test_every_stage_is_told_once_and_in_order(drain: Drain) -> None:
    """A door that has to act at a stage watches."""
    told: list[Stage] = []
    drain.watch(told.append)
    await drain.leave(0, 10)
    assert told == [Stage.ANNOUNCED, Stage.REFUSING, Stage.STOPPED]


async def test_an_announced_server_still_serves(drain: Drain) -> None:
    """Load balancers take a while to notice."""
    leaving = asyncio.create_task(drain.leave(60, 10))
    await asyncio.sleep(0)
    assert drain.stage is Stage.ANNOUNCED
    with drain.enter():
        assert drain.open_count == 1
    leaving.cancel()


async def test_a_refusing_server_lets_nobody_in_and_waits_for_the_others(drain: Drain) -> None:
    """It stops only once its last call has ended."""
    call = drain.enter()
    leaving = asyncio.create_task(drain.leave(0, 60))
    await drain.refusing.wait()
    with pytest.raises(EngineUnavailable, match="draining"):
        drain.enter()
    assert not leaving.done()
    call.leave()
    await leaving
    assert drain.stage is Stage.STOPPED


async def test_a_call_that_never_ends_is_left_behind(drain: Drain) -> None:
    """The server stops when the grace is over."""
    drain.enter()
    await drain.leave(0, 0)
    assert drain.stage is Stage.STOPPED


async def test_a_call_is_counted_out_once(drain: Drain) -> None:
    """Its last byte and its cancellation may both be noticed."""
    call, other = drain.enter(), drain.enter()
    call.leave()
    call.leave()
    assert drain.open_count == 1
    other.leave()


async def test_readiness_follows_engine_and_drain(drain: Drain) -> None:
    """A leaving server does not become ready again, though its engine does."""
    told: list[bool] = []
    readiness = Readiness(drain)
    readiness.watch(told.append)
    readiness.set_engine_ready(False)
    readiness.set_engine_ready(True)
    await drain.leave(0, 10)
    readiness.set_engine_ready(True)
    assert told[:3] == [True, False, True]
    assert set(told[3:]) == {False}
