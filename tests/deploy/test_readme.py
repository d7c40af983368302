"""deploy/README.md: its overlay and its patches render over the base, and its arithmetic is right."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import yaml

from .conftest import DEPLOY, container_of, environment_of, of_kind, rendered

README = (DEPLOY / "README.md").read_text()


def test_the_patches_render(tmp_path: Path) -> None:
    """A bundle from a volume and a file of tokens, over the base with TLS."""
    for name in ("bundle.yaml", "tokens.yaml"):
        (tmp_path / name).write_text(block(f"    # {name}"))
    components = [relative("components/tls", tmp_path)]
    write_overlay(tmp_path, components=components, patches=[{"path": "bundle.yaml"}, {"path": "tokens.yaml"}])
    container = container_of(rendered(str(tmp_path)))
    assert container["args"] == ["/models/my-bundle"]
    assert set(environment_of(container)) >= {"BERTSERVE_TLS_CERTIFICATE", "BERTSERVE_TOKENS"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/models", "/secrets/tls", "/secrets/tokens"}


def test_the_wait_can_be_left_out(tmp_path: Path) -> None:
    """For clusters without an adapter."""
    write_overlay(tmp_path, **yaml.safe_load(block("    # in your kustomization.yaml")))
    (metric,) = of_kind(rendered(str(tmp_path)), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["resource"]["name"] == "cpu"


def test_components_combine(tmp_path: Path) -> None:
    """The README's overlay, with all that there are instead of two."""
    overlay = yaml.safe_load(block("    # kustomization.yaml"))
    named = {Path(component).name for component in overlay.pop("components")}
    every = {path.name for path in (DEPLOY / "components").iterdir()}
    assert named <= every
    components = [relative(f"components/{name}", tmp_path) for name in sorted(every)]
    write_overlay(tmp_path, **{**overlay, "components": components})
    resources = rendered(str(tmp_path))
    assert {resource["kind"] for resource in resources} >= {"ScaledObject", "ServiceMonitor", "ConfigMap"}
    assert container_of(resources)["image"].startswith("registry.example.com/bertserve:")


def test_prometheus_finds_what_the_adapter_asks_by(base: list[dict[str, Any]]) -> None:
    """Each pod once, by the one Service with a port for it, with the labels without which there is no wait to see."""
    (job,) = yaml.safe_load(block("    # prometheus.yml"))["scrape_configs"]
    kept, *labels = job["relabel_configs"]
    ports = [
        f"{resource['metadata']['name']};{port['name']}"
        for resource in base
        if resource["kind"] == "Service"
        for port in resource["spec"]["ports"]
    ]
    (rule,) = yaml.safe_load((DEPLOY / "monitoring" / "prometheus-adapter.yaml").read_text())
    assert ports.count(kept["regex"]) == 1
    assert {label["target_label"] for label in labels} == set(rule["resources"]["overrides"])


def test_the_example_of_sizing_is_right() -> None:
    """⌈demand ÷ (share × speed)⌉ + 1."""
    example = re.compile(r"^    pods .*⌈([\d,]+) ÷ \(([\d.]+) × ([\d,]+)\)⌉ \+ 1 = .* = (\d+)$", re.MULTILINE)
    ((demand, share, speed, pods),) = example.findall(README)
    numbers = [float(number.replace(",", "")) for number in (demand, share, speed)]
    assert math.ceil(numbers[0] / (numbers[1] * numbers[2])) + 1 == int(pods)


def block(first_line: str) -> str:
    """The indented block of the README that begins with a comment, without its indentation."""
    lines = README[README.index(first_line) :].splitlines()
    end = next((number for number, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    return "\n".join(line[4:] for line in lines[:end])


def relative(directory: str, folder: Path) -> str:
    """A directory of deploy/ as seen from a folder; Kustomize takes no absolute paths."""
    return os.path.relpath(DEPLOY / directory, folder)


def write_overlay(folder: Path, **fields: object) -> None:
    """A kustomization over the base."""
    kustomization = {**fields, "resources": [relative("base", folder)]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
