"""A real Prometheus scrapes a real server under load, with the rules, dashboard and adapter's rule of deploy/."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from bertapi.client import BertClient
from bertapi.errors import UnknownModelError
from bertbench.autoscaling.prometheus import Prometheus, find_prometheus, scraping
from bertbench.autoscaling.trial import TARGET_SECONDS, Load, measure_autoscaling
from bertbench.errors import BenchError
from servers import running_server

from .conftest import of_kind, rendered
from .test_monitoring import MONITORING, panels, rules

pytestmark = [pytest.mark.system, pytest.mark.export]

# Alerts for which a busy machine has cause enough.
OF_TIME = {"BertserveSlow", "BertserveQueueAgeing"}
PATIENCE_SECONDS = 60.0
# What they keep waiting, 32 texts each, is more than 100,000 tokens and fits the queue: several times what one lane
# runs within the autoscaler's target, on a fast machine too.
CALLERS = 256


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a server with a token file, under load."""
    try:
        find_prometheus()
    except BenchError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("prometheus")
    tokens = folder / "tokens"
    tokens.write_text("a-token-of-nobody-at-all\n")
    stopped = threading.Event()

    def call_on(target: str) -> None:
        with BertClient(target, token=tokens) as client:
            while not stopped.wait(0.05):
                client.embed(["calculus is a branch of mathematics"] * 4)
                # Some fail, which one panel shows.
                with contextlib.suppress(UnknownModelError):
                    client.embed(["calculus"], model="none")

    with running_server("--tokens", tokens) as server:
        caller = threading.Thread(target=call_on, args=[server.target])
        caller.start()
        try:
            with scraping(folder, MONITORING, server.metrics) as running:
                yield running
        finally:
            stopped.set()
            caller.join()


def test_the_server_is_up_and_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    """No target is down, no rule fails, and no alert is about to fire on a healthy server."""

    def targets() -> list[dict[str, str]]:
        return list(prometheus.ask("targets")["activeTargets"])

    def evaluated() -> list[dict[str, str]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    def alerts() -> set[str]:
        return {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]}

    assert {rule["name"] for rule in evaluated()} == {rule.get("alert") or rule["record"] for rule in rules()}
    assert eventually(lambda: {rule["health"] for rule in evaluated()} == {"ok"}), evaluated()
    assert eventually(lambda: [(one["health"], one["lastError"]) for one in targets()] == [("up", "")]), targets()
    assert eventually(lambda: alerts() <= OF_TIME), alerts()


def test_every_recorded_series_is_there(prometheus: Prometheus) -> None:
    """A rule that is evaluated to nothing would leave its alert silent for ever."""
    for rule in rules():
        if "record" in rule:
            assert eventually(lambda expression=rule["record"]: prometheus.query(expression)), rule["record"]


def test_every_expression_of_the_dashboard_returns_series(prometheus: Prometheus) -> None:
    """With Grafana's variables filled in."""
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$job", "bertserve")
            expression = expression.replace("$namespace", ".*").replace("$model", ".*")
            found = eventually(lambda expression=expression: prometheus.query(expression))
            assert found, f"{panel['title']}: {expression}"


def test_the_autoscalers_metric_rises_under_load_and_falls_after() -> None:
    """As prometheus-adapter would compute it; above the target under load, and at nothing before and after."""
    autoscaler = of_kind(rendered("base"), "HorizontalPodAutoscaler")["spec"]
    assert autoscaler["metrics"][0]["pods"]["target"]["averageValue"] == f"{TARGET_SECONDS * 1000:.0f}m"
    load = Load(callers=CALLERS, before=0, seconds=0, after=0, patience=PATIENCE_SECONDS)
    moments = measure_autoscaling(MONITORING, load)
    assert moments[0].wait == 0
    assert max(moment.wait for moment in moments if moment.is_loaded) > TARGET_SECONDS
    assert moments[-1].wait == 0


def eventually(find: Callable[[], object]) -> object:
    """What is found, at the latest after a minute: scrapes and rules come when the machine has time for them."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (found := find()) and time.monotonic() < ends:
        time.sleep(0.2)
    return found
