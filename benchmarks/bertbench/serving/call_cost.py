"""What a call costs the event loop, beside a bare gRPC handler that decodes the request and returns a ready answer.

Both servers share one event loop in a process of its own, which collects garbage as a server does. They take turns.
Engine and tokenizer of ours are scripted, so the figure holds what a call passes on the loop: the chain, the tasks, the
queue, and its answer. The calls come from another process. Processor time is that of the loop's thread alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import grpc
import uvloop
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertserve.bundle import Bundle
from bertserve.process.garbage import spare_loaded

from bertbench.serving.scripted import ready_serving

TEXT = "the cat sat on the mat"
# Calls open at a time, all on one connection.
CALLERS = 8
WARM_UP_CALLS = 500
SERVE = "from bertbench.serving.call_cost import serve; serve()"
SERVICE = pb.DESCRIPTOR.services_by_name["BertService"].full_name
CALL = "from bertbench.serving.call_cost import call; call()"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCost:
    """Processor time of the event loop's thread a call, in microseconds, once a round."""

    ours: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return median(own / bare for own, bare in zip(self.ours, self.bare, strict=True))


def measure_call_cost(bundle: Bundle, rounds: int, calls: int) -> CallCost:
    """Both by turns. calls: of each, in a round."""
    command = [sys.executable, "-c", SERVE, str(bundle.path), str(rounds), str(calls)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 (ours)
    return CallCost(**{name: tuple(values) for name, values in json.loads(done.stdout.splitlines()[-1]).items()})


def serve() -> None:
    """Serve both, and print what their calls cost."""
    path, rounds, calls = sys.argv[1:]
    print(json.dumps(uvloop.run(_measure(Path(path), int(rounds), int(calls)))))  # noqa: T201 (the process's result)


def call() -> None:
    """Read "TARGET CALLS" from stdin, line by line. Make the calls, and say when they are answered."""
    uvloop.run(_call_when_told())


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A process that calls when it is told to."""

    orders: asyncio.StreamWriter
    answers: asyncio.StreamReader


async def _measure(path: Path, rounds: int, calls: int) -> dict[str, list[float]]:
    async with ready_serving(path) as ours, _caller() as caller, _bare_server(await _embed(ours)) as bare:
        spare_loaded()
        targets = {"ours": ours, "bare": bare}
        for target in targets.values():
            await _spend(caller, target, WARM_UP_CALLS)
        costs: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(rounds):
            for name, target in targets.items():
                costs[name].append(1e6 * await _spend(caller, target, calls) / calls)
    return costs


async def _spend(caller: Caller, target: str, calls: int) -> float:
    """Processor seconds of this thread, which is the loop's, until so many calls are answered."""
    began = time.thread_time()
    caller.orders.write(f"{target} {calls}\n".encode())
    await caller.answers.readline()
    return time.thread_time() - began


@contextlib.asynccontextmanager
async def _caller() -> AsyncIterator[Caller]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CALL, stdin=pipe, stdout=pipe)
    try:
        yield Caller(
            orders=cast("asyncio.StreamWriter", process.stdin), answers=cast("asyncio.StreamReader", process.stdout)
        )
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def _bare_server(answer: pb.EmbedResponse) -> AsyncIterator[str]:
    """A server that gives the same answer to every Embed."""

    async def embed(request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:  # noqa: ARG001
        return answer

    decode, encode = pb.EmbedRequest.FromString, pb.EmbedResponse.SerializeToString
    handler = grpc.unary_unary_rpc_method_handler(cast("Any", embed), decode, encode)  # typed for synchronous servers
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Embed": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=0)


async def _embed(target: str) -> pb.EmbedResponse:
    """The answer that both give."""
    async with grpc.aio.insecure_channel(target) as channel:
        return await pb_grpc.BertServiceStub(channel).Embed(_request())


async def _call_when_told() -> None:
    loop, channels = asyncio.get_running_loop(), dict[str, grpc.aio.Channel]()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        target, calls = line.split()
        if target not in channels:
            channels[target] = grpc.aio.insecure_channel(target)
        await asyncio.gather(*(_keep_calling(channels[target], int(calls) // CALLERS) for _ in range(CALLERS)))
        print(flush=True)  # noqa: T201 (the process's result)


async def _keep_calling(channel: grpc.aio.Channel, calls: int) -> None:
    embed, request = pb_grpc.BertServiceStub(channel).Embed, _request()
    for _ in range(calls):
        await embed(request)


def _request() -> pb.EmbedRequest:
    return pb.EmbedRequest(inputs=[pb.TextInput(text=TEXT)], options=pb.EmbedOptions(pooling=pb.POOLING_MEAN))
