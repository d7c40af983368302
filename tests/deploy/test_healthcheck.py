"""deploy/healthcheck.py, as Docker runs it: it reads the server's variables, and knows what to ask."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from certificates import Authority
from servers import PRETRAINING, RunningServer, running_server

from .conftest import DEPLOY

# Docker sets these in every container where its user has a proxy, which knows nothing of a container's loopback.
PROXIES = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "no_proxy": ""}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a server that demands TLS."""
    pair = Authority(tmp_path_factory.mktemp("tls")).issue("server")
    return {"BERTSERVE_TLS_CERTIFICATE": str(pair.certificate), "BERTSERVE_TLS_KEY": str(pair.key)}


def test_a_ready_server_is_healthy(server: RunningServer) -> None:
    """Over gRPC."""
    assert healthcheck({"BERTSERVE_PORT": port_of(server.target)}).returncode == 0


def test_a_ready_server_with_tls_is_healthy(tls: dict[str, str]) -> None:
    """By its page; over gRPC without TLS it would seem dead."""
    with running_server(PRETRAINING, environment=tls) as server:
        ports = {"BERTSERVE_PORT": port_of(server.target), "BERTSERVE_METRICS_PORT": port_of(server.metrics)}
        assert healthcheck({**tls, **ports}).returncode == 0
        assert healthcheck({**tls, **ports, **PROXIES}).returncode == 0
        assert healthcheck(ports).returncode == 1


def test_no_proxy_is_asked(server: RunningServer) -> None:
    """Over gRPC."""
    assert healthcheck({"BERTSERVE_PORT": port_of(server.target), **PROXIES}).returncode == 0


def test_silence_is_not_healthy(tls: dict[str, str]) -> None:
    """With either protocol; the message says who did not answer."""
    nobody = {"BERTSERVE_PORT": "1", "BERTSERVE_METRICS_PORT": "1"}
    for environment in (nobody, {**tls, **nobody}):
        found = healthcheck(environment)
        assert found.returncode == 1
        assert "127.0.0.1:1" in found.stderr


def healthcheck(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run with these variables beside our own."""
    command = [sys.executable, str(DEPLOY / "healthcheck.py")]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def port_of(address: str) -> str:
    return address.rpartition(":")[2]
