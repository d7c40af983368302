"""The server's metrics page, read by series."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from bertbench.errors import BenchError

READ_SECONDS = 10.0

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Sample:
    """Every series of the page at one moment: name → labels → value."""

    series: Mapping[str, Mapping[Labels, float]]

    def sum(self, name: str, **labels: str) -> float:
        """Sum over the series of a name that carry these labels. Raises BenchError where the page has no such name."""
        if name not in self.series:
            raise BenchError(f"the metrics page has no {name}; is it bertserve's?")
        wanted = labels.items()
        return sum(value for found, value in self.series[name].items() if wanted <= dict(found).items())


def parse_metrics(page: str) -> Sample:
    """The page in Prometheus's text format."""
    series: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            series.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return Sample(series)


def read_metrics(address: str) -> Sample:
    """The page at HOST:PORT. Raises BenchError."""
    url = f"http://{address}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=READ_SECONDS) as answer:
            return parse_metrics(answer.read().decode())
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{url} cannot be read ({error}); --metrics takes HOST:PORT of the server's metrics"
        ) from error
