"""deploy/base: valid Kubernetes, and the promises that the schema cannot see."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from bertapi.v1 import bert_service_pb2
from bertserve.settings import Settings

BASE = Path(__file__).parents[2] / "deploy" / "base"
SERVICE_NAME = bert_service_pb2.DESCRIPTOR.services_by_name["BertService"].full_name

# preStop.sleep is what needs 1.30.
KUBERNETES_VERSIONS = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]
KINDS = {
    "Deployment",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "ServiceAccount",
}

Resource = dict[str, Any]


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_resource_is_valid_strictly(resources: dict[str, Resource], version: str) -> None:
    """No unknown field and no wrong type, in any supported version of Kubernetes."""
    assert set(resources) == KINDS
    for resource in resources.values():
        assert kubernetes_validate.validate(resource, version, strict=True).startswith(version)


def test_a_version_too_old_for_the_hook_is_refused(resources: dict[str, Resource]) -> None:
    """The validation sees the field that sets the oldest version, so it would see others too."""
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resources["Deployment"], "1.28", strict=True)


def test_kubectl_renders_the_same_resources(resources: dict[str, Resource]) -> None:
    """What `kubectl apply -k` would send is what the files say."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the kustomization is not rendered, only its files are checked")
    rendered = subprocess.run(["kubectl", "kustomize", BASE], capture_output=True, text=True, check=True).stdout
    assert {document["kind"]: document for document in yaml.safe_load_all(rendered)} == resources


def test_every_file_of_the_base_is_named_in_the_kustomization() -> None:
    """A manifest that nobody applies is a mistake."""
    named = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(named) == sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe"])
def test_readiness_is_asked_over_grpc(container: Resource, probe: str) -> None:
    """Startup and readiness ask the health service for the service that the .proto declares."""
    assert container[probe]["grpc"] == {"port": port_of(container, "grpc"), "service": SERVICE_NAME}


def test_liveness_is_asked_on_the_metrics_port(container: Resource) -> None:
    """Liveness stays off the gRPC port: load and draining must not restart a pod."""
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "metrics"}


def test_ports_are_those_of_the_server(container: Resource) -> None:
    """The container listens where the server's defaults say."""
    defaults = Settings.model_fields
    assert port_of(container, "grpc") == defaults["port"].default
    assert port_of(container, "metrics") == defaults["metrics_port"].default


def test_the_service_is_headless_and_keeps_the_ports(resources: dict[str, Resource], container: Resource) -> None:
    """Clients of a headless service dial the pod's port, so both numbers are one; proxies learn that it is HTTP/2."""
    service = resources["Service"]["spec"]
    ports = {port["name"]: port for port in service["ports"]}
    assert service["clusterIP"] == "None"
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"
    for name, port in ports.items():
        assert (port["port"], port["targetPort"]) == (port_of(container, name), name)


def test_scraping_is_announced_on_the_metrics_port(resources: dict[str, Resource], container: Resource) -> None:
    """Prometheus' annotations name the metrics port and path."""
    annotations = resources["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port_of(container, "metrics")),
        "prometheus.io/path": "/metrics",
    }


def test_only_the_two_ports_are_open(resources: dict[str, Resource]) -> None:
    """The network policy admits gRPC and metrics, and lets nothing out."""
    policy = resources["NetworkPolicy"]["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["grpc", "metrics"]
    assert policy["egress"] == []


def test_termination_outlasts_the_drain(pod: Resource, container: Resource) -> None:
    """The kubelet kills later than the hook, the drain pause and the grace together take."""
    environment = environment_of(container)
    hook_seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_seconds = float(environment["BERTSERVE_DRAIN_PAUSE"]) + float(environment["BERTSERVE_GRACE"])
    assert pod["terminationGracePeriodSeconds"] > hook_seconds + drain_seconds


def test_serving_goes_on_for_a_readiness_period(container: Resource) -> None:
    """From the start of termination the pod serves on for longer than a probe takes to tell the endpoints."""
    pause_seconds = float(environment_of(container)["BERTSERVE_DRAIN_PAUSE"])
    hook_seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert hook_seconds + pause_seconds > container["readinessProbe"]["periodSeconds"]


def test_every_variable_is_a_setting(container: Resource) -> None:
    """A variable that the server does not read would be silently without effect."""
    settings = {f"BERTSERVE_{name.upper()}" for name in Settings.model_fields}
    assert set(environment_of(container)) <= settings


def test_service_links_are_off(pod: Resource) -> None:
    """A service named bertserve must not set BERTSERVE_PORT in the pods."""
    assert pod["enableServiceLinks"] is False


def test_quality_of_service_is_guaranteed(container: Resource) -> None:
    """Requests equal limits in CPU and memory, and the CPUs are whole, as lanes are."""
    resources = container["resources"]
    assert resources["requests"] == resources["limits"]
    assert set(resources["limits"]) == {"cpu", "memory"}
    assert int(resources["limits"]["cpu"]) >= 1


def test_the_pod_is_restricted(pod: Resource, container: Resource) -> None:
    """The security context passes Kubernetes' `restricted` standard, on a read-only root with a writable /tmp."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (volume,) = pod["volumes"]
    assert "emptyDir" in volume
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/tmp"}]  # noqa: S108 (in the pod)


def test_the_pod_holds_no_cluster_token(resources: dict[str, Resource], pod: Resource) -> None:
    """Neither the account nor the pod mounts one."""
    assert resources["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == resources["ServiceAccount"]["metadata"]["name"]


def test_every_selector_selects_the_pods(resources: dict[str, Resource], pod: Resource) -> None:
    """Deployment, service, budget, policy and spread constraint mean the same pods."""
    labels = resources["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (spread,) = pod["topologySpreadConstraints"]
    assert resources["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert resources["Service"]["spec"]["selector"] == labels
    assert resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert spread["labelSelector"]["matchLabels"] == labels


def test_the_autoscaler_owns_the_replicas(resources: dict[str, Resource]) -> None:
    """It targets the Deployment, which names no number of its own, and leaves the disruption budget a pod to take."""
    autoscaler, deployment = resources["HorizontalPodAutoscaler"]["spec"], resources["Deployment"]
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]
    assert autoscaler["minReplicas"] > resources["PodDisruptionBudget"]["spec"]["minAvailable"]


def test_a_rollout_never_has_fewer_pods(resources: dict[str, Resource]) -> None:
    """A new pod is ready before an old one goes."""
    assert resources["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def port_of(container: Resource, name: str) -> int:
    """The container's port of that name."""
    (number,) = [port["containerPort"] for port in container["ports"] if port["name"] == name]
    return number


def environment_of(container: Resource) -> dict[str, str]:
    """Name → value of the container's environment."""
    return {variable["name"]: variable["value"] for variable in container["env"]}
