"""The report as JSON for a program."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from bertbench.graph.findings import Finding
from bertbench.graph.report import Figure, Report


def report_json(report: Report, findings: list[Finding]) -> str:
    """Everything, every round included. Rates are tokens/s."""
    record = {
        "started": report.started,
        "machine": asdict(report.machine),
        "settings": asdict(report.settings),
        "others": report.others,
        "notes": report.notes,
        "findings": [asdict(finding) for finding in findings],
        **{
            name: [_figure_fields(figure) for figure in figures]
            for name, figures in (("arranged", report.arranged), ("shaped", report.shaped), ("tasks", report.tasks))
        },
    }
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _figure_fields(figure: Figure) -> dict[str, Any]:
    return {
        "contestant": figure.contestant,
        "kind": figure.kind,
        "precision": figure.precision,
        "shape": asdict(figure.shape),
        "lanes": figure.arrangement.lanes,
        "threads": figure.arrangement.threads,
        "task": figure.task,
        "median": figure.rates.median,
        "rates": figure.rates.values,
    }
