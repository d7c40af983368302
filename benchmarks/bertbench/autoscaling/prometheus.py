"""A Prometheus with the rules of deploy/monitoring, asked as dashboards and adapters ask."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bertbench.errors import BenchError
from bertbench.ports import free_port
from bertbench.serving.server_process import launched

READY_SECONDS = 30.0
ASK_SECONDS = 10.0
POLL_SECONDS = 0.1

# What Kubernetes' service discovery adds to a pod's series, and the adapter asks by.
POD_LABELS = {"namespace": "default", "pod": "bertserve-0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """address: HOST:PORT."""

    address: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API. Raises BenchError with what it says is wrong."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise BenchError(f"Prometheus refuses {parameters}: {error.read().decode()}") from error
        except OSError as error:
            raise BenchError(f"Prometheus at {self.address} does not answer ({error})") from error

    def query(self, expression: str) -> list[float]:
        """The expression's value now, one for each series."""
        return [float(series["value"][1]) for series in self.ask("query", query=expression)["result"]]


def find_prometheus() -> str:
    """Its path. Raises BenchError where it is not installed."""
    program = shutil.which("prometheus")
    if program is None:
        raise BenchError("prometheus is missing: apt-get install prometheus")
    return program


@contextlib.contextmanager
def scraping(folder: Path, monitoring: Path, metrics: str, every_seconds: int = 1) -> Iterator[Prometheus]:
    """A Prometheus that reads the page at `metrics`, HOST:PORT, as the job bertserve, and evaluates the rules as often.
    Raises BenchError where it does not start."""
    port = free_port()
    (folder / "recording.yml").write_text(
        (monitoring / "recording.yml")
        .read_text(encoding="utf-8")
        .replace("interval: 15s", f"interval: {every_seconds}s"),
        encoding="utf-8",
    )
    configuration = {
        "global": {"scrape_interval": f"{every_seconds}s", "evaluation_interval": f"{every_seconds}s"},
        "rule_files": [str(folder / "recording.yml"), str((monitoring / "alerts.yml").resolve())],
        "scrape_configs": [
            {"job_name": "bertserve", "static_configs": [{"targets": [metrics], "labels": POD_LABELS}]},
        ],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps(configuration), encoding="utf-8")
    command = [
        find_prometheus(), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with launched(command, {}) as launch:
        prometheus = Prometheus(address=f"127.0.0.1:{port}")
        _wait_for_target(prometheus, time.monotonic() + READY_SECONDS)
        del launch
        yield prometheus


def adapter_query(rules: Path, metric: str) -> str:
    """What prometheus-adapter asks for a metric of the pods in POD_LABELS. Raises BenchError where no rule has it.

    Its templates name the series, the matchers of the objects asked for, and what to group by.
    """
    for rule in yaml.safe_load(rules.read_text(encoding="utf-8")):
        if rule["seriesQuery"].partition("{")[0] == metric:
            overrides: Mapping[str, Any] = rule["resources"]["overrides"]
            matchers = ",".join(f'{label}=~"{POD_LABELS[label]}"' for label in overrides)
            replacements = {"<<.Series>>": metric, "<<.LabelMatchers>>": matchers, "<<.GroupBy>>": "pod"}
            query = str(rule["metricsQuery"])
            for template, value in replacements.items():
                query = query.replace(template, value)
            return query
    raise BenchError(f"{rules} has no rule for {metric}")


def _wait_for_target(prometheus: Prometheus, deadline: float) -> None:
    while True:
        with contextlib.suppress(BenchError):
            if prometheus.query('up{job="bertserve"}') == [1.0]:
                return
        if time.monotonic() > deadline:
            raise BenchError(f"Prometheus has not scraped the server within {READY_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
