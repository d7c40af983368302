"""Each flood against each server by turns, every one against a server that was just started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from bertapi.errors import TOO_LARGE
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc

from bertbench.errors import BenchError
from bertbench.floods.attacks import EMBED, Flood, flooding, make_floods
from bertbench.floods.caller import Caller, Calls, call_as_newcomers, connected, gather_calls
from bertbench.progress import Progress
from bertbench.serving.server_process import ServerProcess, started

FLOOD_COUNT = len(make_floods(1 << 20, 1))
# Larger than any server takes by default.
OVERSIZED_BYTES = 32 * 2**20
# The kernel's word for: forget the peak of resident memory (proc_pid_clear_refs).
RESET_PEAK = "5"


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodRun:
    """One flood against one server. flood: its name. peak_bytes: resident memory at most, above that of the idle
    server. alone, flooded: a small caller's calls before and during the flood, on one connection. newcomers: calls
    during the flood, each on a connection of its own."""

    server: str
    flood: str
    peak_bytes: int
    alone: Calls
    flooded: Calls
    newcomers: Calls


def measure_floods(
    bundle: Path, servers: Mapping[str, Path], seconds: float, rounds: int, progress: Progress
) -> list[FloodRun]:
    """servers: a name, and the Python that runs it. seconds: of the caller alone, again in the flood, and of newcomers.

    Raises BenchError.
    """
    runs = []
    for number in range(rounds):
        for index in range(FLOOD_COUNT):
            # Who goes first changes, so that a machine that gets slower favours nobody.
            names = list(servers) if (number + index) % 2 == 0 else list(servers)[::-1]
            for name in names:
                with progress.step(f"round {number + 1}, flood {index + 1}, {name}"):
                    runs.append(_measure(bundle, name, servers[name], index, seconds))
    return runs


def merge_rounds(runs: Sequence[FloodRun]) -> list[FloodRun]:
    """One run for each flood and server: the median of the peaks, and all calls. In order of first appearance."""
    merged: dict[tuple[str, str], list[FloodRun]] = {}
    for run in runs:
        merged.setdefault((run.flood, run.server), []).append(run)
    return [
        FloodRun(
            server=server, flood=flood, peak_bytes=int(median(run.peak_bytes for run in group)),
            alone=gather_calls([run.alone for run in group]), flooded=gather_calls([run.flooded for run in group]),
            newcomers=gather_calls([run.newcomers for run in group]),
        )
        for (flood, server), group in merged.items()
    ]  # fmt: skip


def _measure(bundle: Path, name: str, python: Path, index: int, seconds: float) -> FloodRun:
    command = [str(python), "-m", "bertserve", str(bundle.resolve()), "--port", "0", "--metrics-port", "0"]
    with started([*command, "--drain-pause", "0", "--grace", "1", "--log-level", "error"]) as server:
        flood = make_floods(find_largest_request(server.target), find_layer_count(server.target))[index]
        with connected(server.target) as caller:
            caller.call_for(seconds / 4)
            return _measure_flood(name, flood, server, caller, seconds)


def _measure_flood(name: str, flood: Flood, server: ServerProcess, caller: Caller, seconds: float) -> FloodRun:
    alone = caller.call_for(seconds)
    Path(f"/proc/{server.process_id}/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    idle_bytes = server.memory_bytes()
    with flooding(flood, server.target):
        flooded = caller.call_for(seconds)
        newcomers = call_as_newcomers(server.target, seconds)
    return FloodRun(
        server=name, flood=flood.name, peak_bytes=server.peak_memory_bytes() - idle_bytes, alone=alone,
        flooded=flooded, newcomers=newcomers,
    )  # fmt: skip


def find_largest_request(target: str) -> int:
    """Bytes of the largest request that a server takes, by what it says of a larger one. Raises BenchError."""
    with grpc.insecure_channel(target, [("grpc.max_send_message_length", -1)]) as channel:
        embed: Any = channel.unary_unary(EMBED)  # typed for a serializer
        try:
            embed(bytes(OVERSIZED_BYTES), timeout=60)
        except grpc.RpcError as error:
            found = TOO_LARGE.search(error.details() or "")
            if found is not None:
                return int(found[3])
            raise BenchError(f"{target}: {error.details()}") from error
    raise BenchError(f"{target} takes requests of {OVERSIZED_BYTES} bytes")


def find_layer_count(target: str) -> int:
    """Layers of the model that a server serves."""
    with grpc.insecure_channel(target) as channel:
        found = pb_grpc.BertServiceStub(channel).GetModel(pb.GetModelRequest(), timeout=60)
    return found.model.layer_count
