"""What is served, free of any transport: models, tasks, limits, drain. A door is opened on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from functools import partial

from bertserve.batching.batcher import Batcher
from bertserve.batching.policy import BatchLimits
from bertserve.drain import Drain, Stage
from bertserve.engine.contract import LanePlan
from bertserve.engine.golden import prove_golden
from bertserve.engine.lanes import Lanes
from bertserve.loading import find_memory_shortage, load_models, measure_speed
from bertserve.models import Models, ServedModel
from bertserve.observe.logs import log, log_warning
from bertserve.observe.metrics import Metrics
from bertserve.process.cores import usable_cores
from bertserve.process.memory import read_memory_limit
from bertserve.settings import Settings, named_bundles
from bertserve.supervision.supervisor import Supervisor
from bertserve.tasks.analysis import Analyzer
from bertserve.tasks.limits import Limits
from bertserve.tuning import find_plan


class Readiness:
    """Whether the engines can answer and the server is not about to leave. It tells everybody who watches."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._is_engine_ready = True
        self._watchers: list[Callable[[bool], None]] = []
        drain.watch(lambda _: self._tell())

    @property
    def is_ready(self) -> bool:
        return self._is_engine_ready and self._drain.stage is Stage.SERVING

    def watch(self, tell: Callable[[bool], None]) -> None:
        """Call `tell` now, and after everything that may have changed the answer."""
        self._watchers.append(tell)
        tell(self.is_ready)

    def set_engine_ready(self, is_engine_ready: bool) -> None:
        """Note what the supervisor says of the engines, and tell it."""
        self._is_engine_ready = is_engine_ready
        self._tell()

    def _tell(self) -> None:
        for tell in self._watchers:
            tell(self.is_ready)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Everything that a door needs to answer its clients."""

    models: Models
    analyzer: Analyzer
    limits: Limits
    drain: Drain
    metrics: Metrics
    readiness: Readiness
    supervisor: Supervisor

    @property
    def is_ready(self) -> bool:
        """Return whether new clients should come here, as `/readyz` says."""
        return self.readiness.is_ready

    @property
    def is_alive(self) -> bool:
        """Return whether the lanes are watched, as `/livez` says."""
        return self.supervisor.is_alive

    @property
    def engine_lost(self) -> asyncio.Event:
        """Return what is set once the engine cannot be replaced any more. No call can be answered then."""
        return self.supervisor.has_given_up

    def watch_ready(self, tell: Callable[[bool], None]) -> None:
        """Call `tell` with `is_ready`: now, and after every change."""
        self.readiness.watch(tell)


@contextlib.asynccontextmanager
async def open_serving(settings: Settings, metrics: Metrics) -> AsyncIterator[Serving]:
    """Load every bundle. Raises BundleError or SettingsError."""
    bundles = named_bundles(settings)
    cores = usable_cores()
    loop = asyncio.get_running_loop()
    plan = await loop.run_in_executor(None, find_plan, settings, next(iter(bundles.values())), cores)
    lanes = _open_lanes(plan, cores)
    served = await loop.run_in_executor(None, load_models, bundles, plan.lane_threads)
    _warn_of_memory(settings, plan, served)
    batcher = _make_batcher(settings, plan, lanes, served, metrics)
    limits = _limits(settings)
    analyzer = Analyzer(batcher, limits, metrics)
    drain = Drain()
    readiness = Readiness(drain)
    metrics.watch_ready(lambda: readiness.is_ready)
    proofs = [partial(prove_golden, model.engine, model.golden) for model in served]
    on_ready = readiness.set_engine_ready
    supervisor = Supervisor(lanes, batcher, proofs, settings.stall_seconds, metrics, on_ready)
    try:
        yield Serving(
            models=Models(served), analyzer=analyzer, limits=limits, drain=drain, metrics=metrics,
            readiness=readiness, supervisor=supervisor,
        )  # fmt: skip
    finally:
        supervisor.stop()
        analyzer.stop()
        lanes.stop()


def _open_lanes(plan: LanePlan, cores: int) -> Lanes:
    log("lanes", **asdict(plan), cores=cores)
    return Lanes(plan.lanes)


def _make_batcher(
    settings: Settings, plan: LanePlan, lanes: Lanes, served: list[ServedModel], metrics: Metrics
) -> Batcher:
    limits = BatchLimits(batch_tokens=plan.batch_tokens, overtaken_seconds=settings.max_wait_overtaken)
    batcher = Batcher(lanes, limits, settings.queue_tokens, metrics)
    for model in served:
        manifest = model.bundle.manifest
        metrics.add_model(
            model.name, manifest.bundle_id, model.facts.family, model.facts.precision, manifest.source.model
        )
        batcher.add_model(model.name, model.engine, measure_speed(model))
        log("model loaded", model=model.name, bundle_id=manifest.bundle_id, precision=model.facts.precision)
        if settings.queue_tokens < (longest := model.facts.max_tokens):
            log_warning("the longest texts are refused, for none could wait", model=model.name,
                        max_tokens=longest, queue_tokens=settings.queue_tokens)  # fmt: skip
    return batcher


def _warn_of_memory(settings: Settings, plan: LanePlan, served: list[ServedModel]) -> None:
    shortage = find_memory_shortage(
        served, read_memory_limit(), plan.lanes, queue_tokens=settings.queue_tokens, batch_tokens=plan.batch_tokens
    )
    if shortage is not None:
        log_warning(
            "the memory limit is lower than the largest batches need, so the kernel may end the process; raise the "
            "limit, or lower --lanes, --batch-tokens or --queue-tokens",
            **asdict(shortage),
            lanes=plan.lanes,
        )


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_inputs=settings.max_inputs,
        max_characters=settings.max_characters,
        max_top_k=settings.max_top_k,
        max_response_bytes=settings.max_response_bytes,
    )
