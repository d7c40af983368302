"""What Prometheus sees. Label sets are small and fixed: models, methods, codes, reasons, stages; never text or ids.

The RPC metrics carry go-grpc-prometheus's names and label values, so that stock dashboards and alerts match.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TOKEN_BUCKETS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024, 2048)
ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)

STAGES = ("tokenize", "queue", "infer", "finish")
REJECT_REASONS = ("queue_full", "wait", "deadline", "draining", "invalid")
DROP_REASONS = ("cancelled", "expired")
RELOAD_RESULTS = ("used", "refused")

RPC_LABELS = ("grpc_type", "grpc_service", "grpc_method")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetrics:
    """The series of one model, looked up once: finding them by their labels costs more than counting.

    stages, rejected, dropped: by stage and reason.
    """

    batch_tokens: Histogram
    batch_items: Histogram
    stages: dict[str, Histogram]
    tokens: Counter
    rejected: dict[str, Counter]
    dropped: dict[str, Counter]
    engine_failures: Counter
    engine_busy_seconds: Counter


class Metrics:
    """All series of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._of_model: dict[str, ModelMetrics] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.rpc_started = self._counter("grpc_server_started_total", "RPCs started.", RPC_LABELS)
        self.rpc_handled = self._counter("grpc_server_handled_total", "RPCs completed.", (*RPC_LABELS, "grpc_code"))
        self.rpc_seconds = self._histogram(
            "grpc_server_handling_seconds", "Time from an RPC's start to its end.", RPC_LABELS, SECONDS_BUCKETS
        )
        self.queue_tokens = self._gauge("bertserve_queue_tokens", "Tokens that wait for a lane.")
        self.queue_items = self._gauge("bertserve_queue_items", "Items that wait for a lane.")
        self.queue_oldest_seconds = self._gauge("bertserve_queue_oldest_seconds", "Age of the item waiting longest.")
        self.estimated_wait_seconds = self._gauge(
            "bertserve_estimated_wait_seconds",
            "Time until a request arriving now would start: tokens waiting and under way ÷ tokens/s.",
        )
        self.batch_tokens = self._histogram("bertserve_batch_tokens", "Tokens of a batch.", ("model",), TOKEN_BUCKETS)
        self.batch_items = self._histogram("bertserve_batch_items", "Items of a batch.", ("model",), ITEM_BUCKETS)
        self.stage_seconds = self._histogram(
            "bertserve_stage_seconds", "Time that requests spend in a stage.", ("model", "stage"), SECONDS_BUCKETS
        )
        self.tokens = self._counter("bertserve_tokens_total", "Tokens that the engine ran.", ("model",))
        self.rejected = self._counter("bertserve_rejected_total", "Requests refused.", ("model", "reason"))
        self.dropped = self._counter("bertserve_dropped_total", "Items dropped before they ran.", ("model", "reason"))
        self.engine_failures = self._counter("bertserve_engine_failures_total", "Runs that raised.", ("model",))
        self.engine_busy_seconds = self._counter(
            "bertserve_engine_busy_seconds_total", "Time that lanes ran batches, summed over lanes.", ("model",)
        )
        self.reloads = self._counter("bertserve_reloads_total", "Changes of TLS and token files.", ("what", "result"))
        self.stale_files = self._gauge("bertserve_stale_files", "1 while changed files cannot be used, else 0.", "what")
        self.lanes_lost = Counter("bertserve_lanes_lost_total", "Lanes that died or stalled.", registry=self.registry)
        self._ready = Gauge("bertserve_ready", "1 while /readyz says so, else 0.", registry=self.registry)
        self._model_info = Gauge(
            "bertserve_model_info",
            "A served bundle; always 1.",
            ("model", "bundle_id", "family", "precision", "source"),
            registry=self.registry,
        )

    def add_model(self, name: str, bundle_id: str, family: str, precision: str, source: str) -> None:
        """Say what is served, and set every series of a model to zero, so that rates are right from the first event."""
        self._model_info.labels(name, bundle_id, family, precision, source).set(1)
        self.of_model(name)

    def of_model(self, name: str) -> ModelMetrics:
        if name not in self._of_model:
            self._of_model[name] = self._find(name)
        return self._of_model[name]

    def count_batches(self, name: str) -> int:
        """Batches of a model that ran."""
        (family,) = self.of_model(name).batch_items.collect()
        return next(int(sample.value) for sample in family.samples if sample.name.endswith("_count"))

    def _find(self, name: str) -> ModelMetrics:
        return ModelMetrics(
            batch_tokens=self.batch_tokens.labels(name),
            batch_items=self.batch_items.labels(name),
            stages={stage: self.stage_seconds.labels(name, stage) for stage in STAGES},
            tokens=self.tokens.labels(name),
            rejected={reason: self.rejected.labels(name, reason) for reason in REJECT_REASONS},
            dropped={reason: self.dropped.labels(name, reason) for reason in DROP_REASONS},
            engine_failures=self.engine_failures.labels(name),
            engine_busy_seconds=self.engine_busy_seconds.labels(name),
        )

    def add_reloaded(self, what: str) -> None:
        """Set the series of files that are read again when they change to zero."""
        self.stale_files.labels(what)
        for result in RELOAD_RESULTS:
            self.reloads.labels(what, result)

    def watch_ready(self, is_ready: Callable[[], bool]) -> None:
        """Read at scrape time whether the server is ready, as /readyz does."""
        self._ready.set_function(lambda: float(is_ready()))

    def watch_queue(
        self,
        model: str,
        tokens: Callable[[], float],
        items: Callable[[], float],
        oldest_seconds: Callable[[], float],
        wait_seconds: Callable[[], float],
    ) -> None:
        """Read the queue's gauges of a model at scrape time."""
        self.queue_tokens.labels(model).set_function(tokens)
        self.queue_items.labels(model).set_function(items)
        self.queue_oldest_seconds.labels(model).set_function(oldest_seconds)
        self.estimated_wait_seconds.labels(model).set_function(wait_seconds)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, label: str = "model") -> Gauge:
        return Gauge(name, text, (label,), registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)
