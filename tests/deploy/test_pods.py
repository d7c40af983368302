"""The pods of the base and of every overlay, started by podman with their own security context and limits."""

from __future__ import annotations

import copy
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    configuration = manifest[:-1]
    for volume in spec["volumes"]:
        if "secret" in volume:
            # Podman 4.3 hands Secrets on as they are encoded.
            del volume["secret"]
            volume.update(folder(tls_folder(tmp_path)))
    if "initContainers" in spec:
        fetch_bundle(configuration, spec, tmp_path)
    name = "bertserve-pod-0" if pod["kind"] == "Deployment" else "bertserve"
    with playing(name, manifest, tmp_path):
        container_name = f"{name}-{spec['containers'][0]['name']}"
        wait_until_ready(container_name, 50051)
        engine("podman", "exec", container_name, "python", "/opt/bertserve/healthcheck.py")


def fetch_bundle(configuration: list[Resource], spec: Resource, parent: Path) -> None:
    """Runs the init container as a pod of its own before the pod, with a folder in place of the volume that both mount.

    Podman 4.3 takes an init container for a running one until process 1 has reaped its monitor, and may give up.
    """
    (container,) = spec.pop("initContainers")
    container["env"] = [
        {"name": "BUNDLE_URL", "value": "file:///store/bundle.tar.gz"},
        {"name": "BUNDLE_ID", "value": read_bundle(PRETRAINING).manifest.bundle_id},
    ]
    (models := parent / "models").mkdir()
    (volume,) = [one for one in spec["volumes"] if one["name"] == "models"]
    del volume["emptyDir"]
    volume.update(folder(models))
    # As an emptyDir is.
    models.chmod(0o777)
    container["volumeMounts"].append({"name": "store", "mountPath": "/store"})
    volumes = [*spec["volumes"], {"name": "store", **folder(bundle_folder(parent))}]
    name = "bertserve-fetch"
    alone = {**spec, "containers": [container], "volumes": volumes, "restartPolicy": "Never"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": alone}
    with playing(name, [*configuration, pod], parent):
        deadline = time.monotonic() + 60
        while not (models / "bundle").exists():
            if time.monotonic() > deadline:
                log = engine("podman", "logs", f"{name}-{container['name']}")
                pytest.fail(f"no bundle was fetched: {log.stderr}{log.stdout}")
            time.sleep(0.2)


@contextmanager
def playing(name: str, manifest: list[Resource], parent: Path) -> Iterator[None]:
    """The pod of that name, as the manifest says; taken down at the end, also one that did not start."""
    file = parent / f"{name}.yaml"
    file.write_text(yaml.safe_dump_all(manifest))
    try:
        engine("podman", "play", "kube", "--replace", file)
        yield
    finally:
        engine("podman", "pod", "rm", "--force", "--time=0", name, check=False)


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
