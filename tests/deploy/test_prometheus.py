"""deploy/monitoring by Prometheus' own tool: rules and expressions parse, alerts fire and are silent as they should."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from servers import RunningServer

from .conftest import of_kind, rendered
from .test_monitoring import MONITORING, panels

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"),
]


def test_the_rules_are_valid() -> None:
    """Both files, duplicates included."""
    promtool("check", "rules", "--lint-fatal", MONITORING / "recording.yml", MONITORING / "alerts.yml")


def test_the_alerts_fire_when_they_should() -> None:
    """The unit tests that lie beside the rules."""
    promtool("test", "rules", MONITORING / "alerts_test.yml")


def test_the_expressions_of_the_dashboard_parse(tmp_path: Path) -> None:
    """Each as a rule, with Grafana's variables filled in."""
    rules = [
        {"record": f"dashboard:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(target["expr"] for panel in panels() for target in panel["targets"])
    ]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)


def test_keda_adds_up_the_pods_of_its_deployment(tmp_path: Path) -> None:
    """Of each the longest wait; and of no other release in the cluster, in its namespace or another."""
    (wait, _) = of_kind(rendered("overlays/keda"), "ScaledObject")["spec"]["triggers"]
    waits = {
        'namespace="default",pod="bertserve-6f7c9-x2x4z",model="a"': 1,
        'namespace="default",pod="bertserve-6f7c9-x2x4z",model="b"': 2,
        'namespace="default",pod="bertserve-6f7c9-k9k9k",model="a"': 4,
        'namespace="default",pod="bertserve-large-5d5d5-q7q7q",model="a"': 100,
        'namespace="other",pod="bertserve-6f7c9-x2x4z",model="a"': 100,
    }
    series = [
        {"series": f"bertserve_estimated_wait_seconds{{{labels}}}", "values": str(seconds)}
        for labels, seconds in waits.items()
    ]
    expected = {"expr": wait["metadata"]["query"], "exp_samples": [{"labels": "{}", "value": 6}]}
    file = tmp_path / "keda.yml"
    file.write_text(yaml.safe_dump({"tests": [{"input_series": series, "promql_expr_test": [expected]}]}))
    promtool("test", "rules", file)


def test_the_metrics_are_well_named(server: RunningServer) -> None:
    """Units, suffixes and help, by Prometheus' conventions."""
    promtool("check", "metrics", page=server.page("/metrics")[1])


def promtool(*arguments: str | Path, page: str = "") -> None:
    """Run it; fail with what it found."""
    completed = subprocess.run(["promtool", *arguments], input=page, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
