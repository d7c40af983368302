"""The pods of the base and of every overlay, started by podman with their own security context and limits."""

from __future__ import annotations

import copy
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from bertserve.bundle import read_bundle
from certificates import Authority
from servers import PRETRAINING

from .conftest import rendered
from .containers import engine, wait_until_ready
from .test_overlays import OVERLAYS, predictor_pods

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

FILTERS = "from tarfile import data_filter"

Resource = dict[str, Any]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_starts(overlay: str, image: str, tmp_path: Path) -> None:
    """As it stands, but for the image's name and where certificate and bundle come from: folders here. Its health check
    passes."""
    resources = copy.deepcopy(rendered(overlay))
    manifest = [*predictor_pods(overlay), *(one for one in resources if one["kind"] in {"ConfigMap", "Deployment"})]
    pod = manifest[-1]
    spec = pod["spec"]["template"]["spec"] if pod["kind"] == "Deployment" else pod["spec"]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        container |= {"image": image, "imagePullPolicy": "Never"}
    if (
        "initContainers" in spec
        and engine("podman", "run", "--rm", "--entrypoint=python", image, "-c", FILTERS, check=False).returncode
    ):
        pytest.skip("fetch_bundle.py needs tarfile's filters, and the base image here has a Python before 3.11.4")
    for container in spec.get("initContainers", []):
        container["env"] = [
            {"name": "BUNDLE_URL", "value": "file:///store/bundle.tar.gz"},
            {"name": "BUNDLE_ID", "value": read_bundle(PRETRAINING).manifest.bundle_id},
        ]
        container["volumeMounts"].append({"name": "store", "mountPath": "/store"})
        spec["volumes"].append({"name": "store", **folder(bundle_folder(tmp_path))})
    for volume in spec["volumes"]:
        if "secret" in volume:
            # Podman 4.3 hands Secrets on as they are encoded.
            del volume["secret"]
            volume.update(folder(tls_folder(tmp_path)))
    name = "bertserve-pod-0" if pod["kind"] == "Deployment" else "bertserve"
    file = tmp_path / "manifest.yaml"
    file.write_text(yaml.safe_dump_all(manifest))
    try:
        played = engine("podman", "play", "kube", file, check=False)
        if played.returncode:
            logs = [
                engine("podman", "logs", f"{name}-{one['name']}", check=False) for one in spec.get("initContainers", [])
            ]
            pytest.fail(f"{played.stderr}{[log.stderr + log.stdout for log in logs]}")
        container_name = f"{name}-{spec['containers'][0]['name']}"
        wait_until_ready(container_name, 50051)
        engine("podman", "exec", container_name, "python", "/opt/bertserve/healthcheck.py")
    finally:
        # A pod that did not start is not taken down by its manifest.
        engine("podman", "pod", "rm", "--force", name, check=False)


def folder(path: Path) -> Resource:
    """A volume of this machine, which anybody may read."""
    path.chmod(0o755)
    for file in path.iterdir():
        file.chmod(0o644)
    return {"hostPath": {"path": str(path), "type": "Directory"}}


def bundle_folder(parent: Path) -> Path:
    """With a bundle as the init container expects it."""
    (store := parent / "store").mkdir()
    with tarfile.open(store / "bundle.tar.gz", "w:gz") as tar:
        tar.add(PRETRAINING, ".")
    return store


def tls_folder(parent: Path) -> Path:
    """With the files of a Secret of type tls."""
    (tls := parent / "tls").mkdir()
    pair = Authority(parent / "authority").issue("server")
    shutil.copy(pair.certificate, tls / "tls.crt")
    shutil.copy(pair.key, tls / "tls.key")
    return tls
