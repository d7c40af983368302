"""The manifests of deploy/base and the Dockerfile, read once, as the tests here look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy" / "base"

Resource = dict[str, Any]


@pytest.fixture(scope="session")
def resources() -> dict[str, Resource]:
    """Kind → resource, of every file that the kustomization names."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    documents = [yaml.safe_load((BASE / name).read_text()) for name in kustomization["resources"]]
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="session")
def pod(resources: dict[str, Resource]) -> Resource:
    """The specification of the Deployment's pods."""
    return resources["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="session")
def container(pod: Resource) -> Resource:
    """The only container of a pod."""
    (only,) = pod["containers"]
    return only


@pytest.fixture(scope="session")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(instruction, arguments) for instruction, arguments in lines]
