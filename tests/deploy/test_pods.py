"""The pods of the base and of every overlay, started by podman with their own security context and limits."""

from __future__ import annotations

import base64
import copy
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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

# Of podman's network, where the host answers pods.
GATEWAY = "10.88.0.1"

Resource = dict[str, Any]


@pytest.fixture
def bundle_url(tmp_path: Path) -> Iterator[str]:
    """Where pods can download a bundle."""
    with tarfile.open(tmp_path / "bundle.tar.gz", "w:gz") as tar:
        tar.add(PRETRAINING, ".")
    with ThreadingHTTPServer(("", 0), partial(SilentHandler, directory=tmp_path)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://{GATEWAY}:{http.server_port}/bundle.tar.gz"
        http.shutdown()


class SilentHandler(SimpleHTTPRequestHandler):
    """Of a folder."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_starts(overlay: str, image: str, bundle_url: str, tmp_path: Path) -> None:
    """As it stands, but for the image's name and where its Secret and bundle come from; its health check passes."""
    resources = copy.deepcopy(rendered(overlay))
    manifest = [*predictor_pods(overlay), *(one for one in resources if one["kind"] in {"ConfigMap", "Deployment"})]
    pod = manifest[-1]
    spec = pod["spec"]["template"]["spec"] if pod["kind"] == "Deployment" else pod["spec"]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        container |= {"image": image, "imagePullPolicy": "Never"}
    for container in spec.get("initContainers", []):
        container["env"] = [
            {"name": "BUNDLE_URL", "value": bundle_url},
            {"name": "BUNDLE_ID", "value": read_bundle(PRETRAINING).manifest.bundle_id},
        ]
    for volume in spec["volumes"]:
        if "secret" in volume:
            # The default, which podman 4.3 needs to be told.
            volume["secret"]["optional"] = False
            manifest.insert(0, secret(tmp_path))
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
        engine("podman", "pod", "rm", "--force", "--time=0", name, check=False)
        engine("podman", "secret", "rm", "bertserve-tls", check=False)


def secret(folder: Path) -> Resource:
    """A Secret of type tls."""
    pair = Authority(folder / "tls").issue("server")
    files = {"tls.crt": pair.certificate, "tls.key": pair.key}
    data = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bertserve-tls"}, "data": data}
