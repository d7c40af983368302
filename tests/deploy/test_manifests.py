"""deploy/base: valid Kubernetes, and the promises that the schema cannot see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from bertapi.v1 import bert_service_pb2
from bertserve.settings import Settings

from .conftest import environment_of, of_kind

BASE = Path(__file__).parents[2] / "deploy" / "base"
SERVICE_NAME = bert_service_pb2.DESCRIPTOR.services_by_name["BertService"].full_name

Resource = dict[str, Any]


def test_a_version_too_old_for_the_hook_is_refused(base: list[Resource]) -> None:
    """The validation sees the field that sets the oldest version, so it would see others too."""
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(of_kind(base, "Deployment"), "1.28", strict=True)


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


def test_one_service_is_headless_and_keeps_the_ports(base: list[Resource], container: Resource) -> None:
    """Clients of a headless service dial the pod's port, so both numbers are one; proxies learn that it is HTTP/2."""
    service = services(base)["bertserve"]["spec"]
    ports = {port["name"]: port for port in service["ports"]}
    assert service["clusterIP"] == "None"
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"
    for name, port in ports.items():
        assert (port["port"], port["targetPort"]) == (port_of(container, name), name)


def test_one_service_has_an_address_and_grpc_alone(base: list[Resource], container: Resource) -> None:
    """For proxies. Without a metrics port, so that nothing finds a pod's metrics twice."""
    service = services(base)["bertserve-cluster-ip"]["spec"]
    (port,) = service["ports"]
    assert service["type"] == "ClusterIP"
    assert "clusterIP" not in service
    assert (port["name"], port["port"], port["targetPort"]) == ("grpc", port_of(container, "grpc"), "grpc")
    assert port["appProtocol"] == "kubernetes.io/h2c"


def test_scraping_is_announced_on_the_metrics_port(base: list[Resource], container: Resource) -> None:
    """Prometheus' annotations name the metrics port and path."""
    annotations = of_kind(base, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port_of(container, "metrics")),
        "prometheus.io/path": "/metrics",
    }


def test_only_the_two_ports_are_open(base: list[Resource]) -> None:
    """The network policy admits gRPC and metrics, and lets nothing out."""
    policy = of_kind(base, "NetworkPolicy")["spec"]
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


def test_the_pod_holds_no_cluster_token(base: list[Resource], pod: Resource) -> None:
    """Neither the account nor the pod mounts one."""
    assert of_kind(base, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == of_kind(base, "ServiceAccount")["metadata"]["name"]


def test_every_selector_selects_the_pods(base: list[Resource], pod: Resource) -> None:
    """Deployment, services, budget, policy and spread constraint mean the same pods."""
    deployment = of_kind(base, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    (spread,) = pod["topologySpreadConstraints"]
    assert deployment["selector"]["matchLabels"] == labels
    assert [service["spec"]["selector"] for service in services(base).values()] == [labels, labels]
    assert of_kind(base, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind(base, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert spread["labelSelector"]["matchLabels"] == labels


def test_the_autoscaler_owns_the_replicas(base: list[Resource]) -> None:
    """It targets the Deployment, which names no number of its own, and leaves the disruption budget a pod to take."""
    autoscaler, deployment = of_kind(base, "HorizontalPodAutoscaler")["spec"], of_kind(base, "Deployment")
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]
    assert autoscaler["minReplicas"] > of_kind(base, "PodDisruptionBudget")["spec"]["minAvailable"]


def test_a_broken_pod_does_not_hold_up_its_node(base: list[Resource]) -> None:
    """By default, a budget that no ready pod meets lets no unready one be evicted either."""
    assert of_kind(base, "PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_autoscaler_sees_the_wait_and_the_cpu(base: list[Resource]) -> None:
    """The wait of a pod by a custom metric, and CPU, which needs no adapter."""
    wait, cpu = of_kind(base, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert (wait["type"], wait["pods"]["metric"]["name"]) == ("Pods", "bertserve_estimated_wait_seconds")
    assert (cpu["type"], cpu["resource"]["name"]) == ("Resource", "cpu")


def test_a_rollout_never_has_fewer_pods(base: list[Resource]) -> None:
    """A new pod is ready before an old one goes."""
    assert of_kind(base, "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def port_of(container: Resource, name: str) -> int:
    """The container's port of that name."""
    (number,) = [port["containerPort"] for port in container["ports"] if port["name"] == name]
    return number


def services(base: list[Resource]) -> dict[str, Resource]:
    """Name → Service."""
    return {resource["metadata"]["name"]: resource for resource in base if resource["kind"] == "Service"}
