"""A server whose engine and tokenizer give the same ready results at every call, so that all else is measured."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from bertserve.bundle import Bundle
from bertserve.doors.grpc.door import prepare_grpc_door
from bertserve.engine.contract import Engine, LanePlan, LaneWishes, RunStop, Runtime
from bertserve.engine.items import Item, ItemOutputs
from bertserve.engine.opening import DEFAULT_RUNTIME, RUNTIMES
from bertserve.engine.packing import PackedBatch
from bertserve.observe.metrics import Metrics
from bertserve.serving import Serving, open_serving
from bertserve.settings import Settings
from bertserve.tokenizer import Text, TokenizedText, Tokenizer, Truncation


class ReadyEngine(Engine):
    """Runs a batch once, by the real engine, and from then on gives those outputs."""

    def __init__(self, engine: Engine) -> None:
        self.bundle = engine.bundle
        self._engine = engine
        self._ready: dict[int, tuple[PackedBatch, list[ItemOutputs]]] = {}
        self._is_scripted = False

    def script(self) -> None:
        """Loading is over, so its proofs have been passed: give ready results from now on."""
        self._is_scripted = True

    def pack(self, items: Sequence[Item]) -> PackedBatch:
        if not self._is_scripted:
            return self._engine.pack(items)
        if len(items) not in self._ready:
            batch = self._engine.pack(items)
            self._ready[len(items)] = batch, self._engine.run(batch)
        return self._ready[len(items)][0]

    def run(self, batch: PackedBatch, stop: RunStop | None = None) -> list[ItemOutputs]:
        return self._ready[len(batch.items)][1] if self._is_scripted else self._engine.run(batch, stop)

    def estimate_run_bytes(self, tokens: int) -> int:
        return self._engine.estimate_run_bytes(tokens)

    def estimate_largest_run_bytes(self, longest_text: int, batch_tokens: int) -> int:
        return self._engine.estimate_largest_run_bytes(longest_text, batch_tokens)


class ReadyRuntime(Runtime):
    """Opens what the real one opens, and remembers it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.engines: list[ReadyEngine] = []

    def plan(self, cores: int, wishes: LaneWishes) -> LanePlan:
        return self._runtime.plan(cores, wishes)

    def open(self, bundle: Bundle, threads: int) -> ReadyEngine:
        self.engines.append(ReadyEngine(self._runtime.open(bundle, threads)))
        return self.engines[-1]


class ReadyTokenizer(Tokenizer):
    """Tokenizes a text once."""

    def __init__(self, path: Path, bundle: Bundle) -> None:
        super().__init__(path, bundle.model)
        self._ready: dict[Text, TokenizedText] = {}

    def tokenize(self, texts: Sequence[Text], truncation: Truncation) -> list[TokenizedText]:
        for text in texts:
            if text not in self._ready:
                (self._ready[text],) = super().tokenize([text], truncation)
        return [self._ready[text] for text in texts]


@contextlib.asynccontextmanager
async def ready_serving(path: Path) -> AsyncIterator[str]:
    """HOST:PORT of a gRPC door on a scripted serving, with the settings that a server has by default."""
    settings, metrics = Settings.model_validate({"bundles": [str(path)], "port": 0, "metrics_port": 0}), Metrics()
    runtime = RUNTIMES[DEFAULT_RUNTIME] = ReadyRuntime(RUNTIMES[DEFAULT_RUNTIME])
    open_door = prepare_grpc_door(settings, metrics)
    async with open_serving(settings, metrics) as serving, open_door(_scripted(serving)) as door:
        for engine in runtime.engines:
            engine.script()
        await door.start()
        yield door.address


def _scripted(serving: Serving) -> Serving:
    models = [
        replace(model, tokenizer=ReadyTokenizer(model.bundle.tokenizer_path, model.bundle)) for model in serving.models
    ]
    return replace(serving, models=type(serving.models)(models))
