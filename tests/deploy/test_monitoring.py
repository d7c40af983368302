"""deploy/monitoring: rules, alerts and dashboard speak of series that a real server exposes, labels included."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from servers import PRETRAINING, running_server

from .conftest import DEPLOY, container_of, of_kind, rendered

MONITORING = DEPLOY / "monitoring"

# A metric with its matchers; functions have a parenthesis behind them, and labels of `by` have none of the prefixes.
SELECTOR = re.compile(r"\b(up|(?:bertserve|grpc|process|python|job\w*:)[\w:]*)(?!\w|\()(?:{([^}]*)})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
# What Prometheus adds to every series, and what it makes by itself.
TARGET_LABELS = {"job", "instance", "namespace", "pod"}
GROUPED = re.compile(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)")

Series = list[tuple[str, dict[str, str]]]


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """Name and labels of all that a server with a token file exposes before any call."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text("a-token-of-nobody-at-all\n")
    with running_server(PRETRAINING, "--tokens", tokens) as server:
        return series_of(server.page("/metrics")[1])


def series_of(page: str) -> Series:
    return [
        (sample.name, dict(sample.labels))
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]


def rules() -> list[dict[str, str]]:
    """Every rule of both files."""
    return [
        rule
        for name in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((MONITORING / name).read_text())["groups"]
        for rule in group["rules"]
    ]


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    loaded: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for rule in rules():
        yield rule.get("record") or rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield f"${variable['name']}", variable["query"]
    keda = of_kind(rendered("overlays/keda"), "ScaledObject")["spec"]["triggers"][0]
    yield "ScaledObject", keda["metadata"]["query"]
    for rule in yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text()):
        yield "prometheus-adapter", rule["seriesQuery"]
    autoscaler = of_kind(rendered("base"), "HorizontalPodAutoscaler")["spec"]
    yield "HorizontalPodAutoscaler", autoscaler["metrics"][0]["pods"]["metric"]["name"]


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Every metric that an expression reads, with its matchers of labels that the server sets."""
    for name, matchers in SELECTOR.findall(GROUPED.sub("", expression)):
        yield name, [found for found in MATCHER.findall(matchers) if found[0] not in TARGET_LABELS]


def matches(labels: dict[str, str], matchers: list[tuple[str, str, str]]) -> bool:
    """Does a series have these labels? A variable of the dashboard matches any value of a label that is there."""
    return all(
        name in labels
        if value.startswith("$")
        else (re.fullmatch(value, labels.get(name, "")) is not None) == operator.startswith("=")
        if operator.endswith("~")
        else (labels.get(name, "") == value) == (operator == "=")
        for name, operator, value in matchers
    )


def test_every_expression_reads_series_that_the_server_exposes(series: Series) -> None:
    """Or that a recording rule makes. A misspelt metric, label or value would be an alert that never fires."""
    recorded = {rule["record"] for rule in rules() if "record" in rule} | {"up"}
    for place, expression in expressions():
        found = list(selectors(expression))
        assert found, f"{place}: no metric in {expression}"
        for name, matchers in found:
            exposed = [labels for exposed_name, labels in series if exposed_name == name]
            assert name in recorded or any(matches(labels, matchers) for labels in exposed), (
                f"{place}: {name} {matchers}"
            )


@pytest.mark.parametrize(
    "expression",
    [
        "bertserve_queue_token",
        'grpc_server_handled_total{grpc_code="DEADLINE_EXCEEDED"}',
        'rate(bertserve_rejected_total{reason=~"full|busy"}[5m])',
        'bertserve_tokens_total{modell="$model"}',
    ],
)
def test_a_misspelt_selector_is_noticed(series: Series, expression: str) -> None:
    """The check above can fail, on a name, a code's spelling, a pattern and a label."""
    ((name, matchers),) = selectors(expression)
    assert not any(matches(labels, matchers) for exposed_name, labels in series if exposed_name == name)


def test_every_alert_says_what_to_do() -> None:
    """A summary, an action and how urgent it is."""
    for rule in rules():
        if "alert" in rule:
            assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
            assert rule["labels"]["severity"] in {"critical", "warning"}


def test_the_memory_alert_knows_the_limit(base: list[dict[str, Any]]) -> None:
    """Nine tenths of the limit in deploy/base."""
    (rule,) = [rule for rule in rules() if rule.get("alert") == "BertserveMemory"]
    limit = container_of(base)["resources"]["limits"]["memory"]
    assert limit == "2Gi"
    assert rule["expr"].endswith("> 0.9 * 2 * 1024 * 1024 * 1024")


def test_every_alert_has_a_unit_test() -> None:
    """In alerts_test.yml: once firing, once silent."""
    tests = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for rule in rules():
        if "alert" in rule:
            of_rule = [bool(case.get("exp_alerts")) for case in cases if case["alertname"] == rule["alert"]]
            assert set(of_rule) == {True, False}, rule["alert"]
