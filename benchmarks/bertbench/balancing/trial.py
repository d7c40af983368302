"""One way to replicas under load: three, a fourth that is added, then some that go and are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bertbench.balancing.callers import Callers, Client, Outcomes, Phase, calling
from bertbench.balancing.names import SERVICE_NAME, NameServer, serving_names
from bertbench.balancing.proxies import Proxy, ProxyKind, proxying
from bertbench.balancing.replicas import Replica, Replicas
from bertbench.load.requests import PreparedRequest, prepare_one

REPLICAS = 3
POLL_SECONDS = 0.05
# Of one request; as many as make a call last for some milliseconds, so that some are under way when a replica goes.
TEXTS = 4
SENTENCE = "calculus is a branch of mathematics that studies continuous change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """examples: the folder of the proxies' configurations. seconds: how long shares are counted, and how long each
    replica's going is watched, at least. shared_calls: of how many calls shares are counted, at least. ways: how
    replicas go. rounds: how many go each way. least: how many there must be before one goes; new ones are added up to
    that. callers: of each client, in a closed loop. drain_pause: theirs, in seconds. connection_age: theirs too, but
    for those behind proxies, which find new ones without it and keep the default. warmup_seconds: of load before shares
    are counted. notice_seconds: from when a replica is forgotten to its SIGTERM, where it is retired. patience_seconds:
    how long a new one's first call is waited for, and calls that are too few to judge by.
    """

    examples: Path
    seconds: float = 3.0
    shared_calls: int = 100
    ways: tuple[Phase, ...] = (Phase.KILLED, Phase.DRAINED, Phase.RETIRED)
    rounds: int = 3
    least: int = 4
    callers: int = 12
    drain_pause: float = 3.0
    connection_age: float = 4.0
    warmup_seconds: float = 4.0
    notice_seconds: float = 5.0
    patience_seconds: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """path: "client", or the proxy's name. shares: of three replicas, then of four, of the calls that they answered by
    their own count. joined_seconds: from when the fourth was ready and named to its first call, None where it got none.
    outcomes: of every call, by client and phase."""

    path: str
    shares: tuple[float, ...]
    shares_after: tuple[float, ...]
    joined_seconds: float | None
    outcomes: dict[Client, Outcomes]

    def failed(self, client: Client, *phases: Phase) -> int:
        """Calls that ended otherwise than OK in these phases, or in all."""
        counts = [self.outcomes[client][phase] for phase in phases or Phase]
        return sum(count.total() - count["OK"] for count in counts)

    def calls(self, client: Client) -> int:
        return sum(count.total() for count in self.outcomes[client].values())


def try_path(path: ProxyKind | None, plan: Plan, console: Console) -> Trial:
    """Through a proxy, or None for the client's own round robin over a name. Raises BenchError."""
    return asyncio.run(_try(path, plan, console))


@dataclass(slots=True)
class _Stage:
    """Replicas, how they are found, and who calls them."""

    replicas: Replicas
    names: NameServer
    proxy: Proxy | None
    callers: dict[Client, Callers]
    plan: Plan

    @contextlib.contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        for callers in self.callers.values():
            callers.phase = phase
        yield
        for callers in self.callers.values():
            callers.phase = Phase.STEADY

    async def add(self) -> float | None:
        """A replica more; seconds until it answered a call."""
        with self.phase(Phase.JOINED):
            (new,) = await asyncio.to_thread(self.replicas.start)
            began = time.monotonic()
            self.names.publish(self.replicas.addresses)
            self._tell_proxy()
            if not await self._wait_for(lambda: new.answered() > 0):
                return None
            return time.monotonic() - began

    async def remove(self, way: Phase) -> None:
        """The oldest replica goes. The name forgets it at that moment and a list of addresses afterwards; both do in
        time where it is retired."""
        with self.phase(way):
            gone = self.replicas.running.pop(0)
            if way is Phase.RETIRED:
                self.names.publish(self.replicas.addresses)
                self._tell_proxy()
                await asyncio.sleep(self.plan.notice_seconds)
            going = asyncio.create_task(asyncio.to_thread(gone.kill if way is Phase.KILLED else gone.drain))
            await asyncio.sleep(0)
            self.names.publish(self.replicas.addresses)
            await going
            await asyncio.sleep(self.plan.seconds)
            await self._wait_for(lambda: all(callers.outcomes[way]["OK"] for callers in self.callers.values()))
            self._tell_proxy()

    async def shares(self) -> tuple[float, ...]:
        """Of the calls that were answered, each replica's part."""
        running = self.replicas.running
        before = await asyncio.to_thread(_answered, running)
        await asyncio.sleep(self.plan.seconds)
        await self._wait_for(lambda: sum(_answered(running)) - sum(before) >= self.plan.shared_calls)
        after = await asyncio.to_thread(_answered, running)
        gained = [later - earlier for earlier, later in zip(before, after, strict=True)]
        return tuple(one / max(1, sum(gained)) for one in gained)

    async def _wait_for(self, happens: Callable[[], bool]) -> bool:
        """Whether it happens in time. Asked in a thread, as servers answer by way of the network."""
        end = time.monotonic() + self.plan.patience_seconds
        while not (happened := await asyncio.to_thread(happens)) and time.monotonic() < end:  # noqa: ASYNC110 (others')
            await asyncio.sleep(POLL_SECONDS)
        return happened

    def _tell_proxy(self) -> None:
        if self.proxy is not None:
            self.proxy.know(self.replicas.addresses)


async def _try(path: ProxyKind | None, plan: Plan, console: Console) -> Trial:
    name = "client" if path is None else path.value
    async with _staged(path, plan) as stage:
        await asyncio.sleep(plan.warmup_seconds)
        shares = await stage.shares()
        console.print(f"{name}: three replicas have {_percent(shares)}", highlight=False)
        joined_seconds = await stage.add()
        await asyncio.sleep(plan.warmup_seconds)
        shares_after = await stage.shares()
        console.print(f"{name}: four replicas have {_percent(shares_after)}", highlight=False)
        for way in plan.ways:
            for _ in range(plan.rounds):
                while len(stage.replicas.running) < plan.least:
                    await stage.add()
                await stage.remove(way)
            console.print(f"{name}: {plan.rounds} {way}", highlight=False)
        return Trial(
            path=name,
            shares=shares,
            shares_after=shares_after,
            joined_seconds=joined_seconds,
            outcomes={client: callers.outcomes for client, callers in stage.callers.items()},
        )


@contextlib.asynccontextmanager
async def _staged(path: ProxyKind | None, plan: Plan) -> AsyncIterator[_Stage]:
    requests: tuple[PreparedRequest, ...] = (prepare_one("embed", [SENTENCE] * TEXTS),)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        replicas = Replicas(stack, _flags(path, plan))
        await asyncio.to_thread(replicas.start, REPLICAS)
        names = stack.enter_context(serving_names(folder, replicas.addresses))
        proxy = None
        if path is not None:
            proxy = stack.enter_context(proxying(path, plan.examples, folder, names.address, replicas.addresses))
        target = f"dns://{names.address}/{SERVICE_NAME}:50051" if proxy is None else proxy.target
        async with AsyncExitStack() as loads:
            callers = {
                client: await loads.enter_async_context(calling(client, target, requests, plan.callers))
                for client in Client
            }
            yield _Stage(replicas=replicas, names=names, proxy=proxy, callers=callers, plan=plan)
        # Nobody calls them any more, so that draining would show nothing.
        for replica in replicas.running:
            replica.kill()


def _flags(path: ProxyKind | None, plan: Plan) -> list[str]:
    flags = ["--drain-pause", f"{plan.drain_pause:g}"]
    return flags if path else [*flags, "--max-connection-age", f"{plan.connection_age:g}"]


def _answered(replicas: Sequence[Replica]) -> list[int]:
    return [replica.answered() for replica in replicas]


def _percent(shares: Sequence[float]) -> str:
    return " / ".join(f"{share:.0%}" for share in shares)
