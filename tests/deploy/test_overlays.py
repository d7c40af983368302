"""deploy/overlays: each renders, is valid in every supported version of Kubernetes, and changes what it says it does.

ScaledObject, ServiceMonitor and InferenceService belong to operators, whose schemas are not at hand: the pods of the
InferenceService are validated, and of the rest only what the tests here look at.
"""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
from bertserve.settings import Settings

from .conftest import DEPLOY, container_of, environment_of, of_kind, pod_of, rendered

# preStop.sleep is what needs 1.30.
OLDEST, NEWEST = "1.30", "1.37"
# What the oldest and the newest allow, those between rarely refuse.
BETWEEN = ["1.31", "1.32", "1.33", "1.34", "1.35", "1.36"]
KUBERNETES_VERSIONS = [OLDEST, *(pytest.param(version, marks=pytest.mark.slow) for version in BETWEEN), NEWEST]
CUSTOM_KINDS = {"ScaledObject", "ServiceMonitor", "InferenceService"}

# Of an InferenceService's predictor: what is KServe's and not a pod's.
KSERVE_FIELDS = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "deploymentStrategy"}

OVERLAYS = ["base", *sorted(f"overlays/{path.name}" for path in (DEPLOY / "overlays").iterdir())]
DEPLOYED = [overlay for overlay in OVERLAYS if overlay != "overlays/kserve"]

Resource = dict[str, Any]


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_is_valid_strictly(overlay: str, version: str) -> None:
    """No unknown field and no wrong type; pods inside an InferenceService too."""
    resources = [resource for resource in rendered(overlay) if resource["kind"] not in CUSTOM_KINDS]
    for resource in [*resources, *predictor_pods(overlay)]:
        assert kubernetes_validate.validate(resource, version, strict=True).startswith(version)


@pytest.mark.parametrize(
    ("overlay", "added", "removed"),
    [
        ("overlays/prod", {"Namespace", "ServiceMonitor"}, set()),
        ("overlays/keda", {"ScaledObject"}, {"HorizontalPodAutoscaler"}),
        ("overlays/servicemonitor", {"ServiceMonitor"}, set()),
        ("overlays/tls", set(), set()),
        ("overlays/model-from-init-container", {"ConfigMap"}, set()),
    ],
)
def test_an_overlay_adds_to_the_base(base: list[Resource], overlay: str, added: set[str], removed: set[str]) -> None:
    """It has the base's kinds and its own."""
    assert kinds(rendered(overlay)) == (kinds(base) | added) - removed


@pytest.mark.parametrize("overlay", DEPLOYED)
def test_the_pods_stay_restricted_and_guaranteed(overlay: str, pod: Resource) -> None:
    """In every container, those that run before the server included: no privilege, no root to write to, no burst."""
    found = pod_of(rendered(overlay))
    assert found["securityContext"] == pod["securityContext"]
    for container in [*found["containers"], *found.get("initContainers", [])]:
        assert container["securityContext"] == pod["containers"][0]["securityContext"]
        assert container["resources"]["requests"] == container["resources"]["limits"]


@pytest.mark.parametrize("overlay", DEPLOYED)
def test_every_variable_is_a_setting(overlay: str) -> None:
    """A variable that the server does not read would be silently without effect."""
    settings = {f"BERTSERVE_{name.upper()}" for name in Settings.model_fields}
    assert set(environment_of(container_of(rendered(overlay)))) <= settings


@pytest.mark.parametrize("overlay", ["overlays/tls", "overlays/prod"])
def test_with_tls_no_probe_speaks_grpc(overlay: str) -> None:
    """A kubelet's gRPC probe would find no plaintext port and kill the pod; the metrics port answers in the clear."""
    container = container_of(rendered(overlay))
    paths = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, path in paths.items():
        assert "grpc" not in container[probe]
        assert container[probe]["httpGet"] == {"path": path, "port": "metrics"}


@pytest.mark.parametrize("overlay", ["overlays/tls", "overlays/prod"])
def test_certificate_and_key_lie_where_the_secret_is_mounted(overlay: str) -> None:
    """Under the names of a Secret of type tls, in a folder that the kubelet keeps fresh."""
    resources = rendered(overlay)
    environment = environment_of(container_of(resources))
    (mount,) = [mount for mount in container_of(resources)["volumeMounts"] if mount["name"] == "tls"]
    (volume,) = [volume for volume in pod_of(resources)["volumes"] if volume["name"] == "tls"]
    assert environment["BERTSERVE_TLS_CERTIFICATE"] == f"{mount['mountPath']}/tls.crt"
    assert environment["BERTSERVE_TLS_KEY"] == f"{mount['mountPath']}/tls.key"
    assert volume["secret"]["secretName"] == "bertserve-tls"
    assert "subPath" not in mount


def test_with_tls_no_service_claims_plaintext() -> None:
    """Gateways and meshes take h2c at its word."""
    protocols = {
        port["appProtocol"]
        for resource in rendered("overlays/tls")
        if resource["kind"] == "Service"
        for port in resource["spec"]["ports"]
        if port["name"] == "grpc"
    }
    assert protocols == {"https"}


def test_keda_scales_what_the_autoscaler_scaled(base: list[Resource]) -> None:
    """The same Deployment, between the same bounds, by the same wait and CPU."""
    autoscaler = of_kind(base, "HorizontalPodAutoscaler")["spec"]
    scaled = of_kind(rendered("overlays/keda"), "ScaledObject")["spec"]
    wait, cpu = scaled["triggers"]
    assert scaled["scaleTargetRef"] == autoscaler["scaleTargetRef"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (
        autoscaler["minReplicas"],
        autoscaler["maxReplicas"],
    )
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == autoscaler["behavior"]
    assert autoscaler["metrics"][0]["pods"]["target"]["averageValue"] == "250m"
    assert (wait["metricType"], wait["metadata"]["threshold"]) == ("AverageValue", "0.25")
    assert cpu["metadata"]["value"] == str(autoscaler["metrics"][1]["resource"]["target"]["averageUtilization"])


def test_every_pod_is_scraped_once_by_the_operator() -> None:
    """Of the services that the monitor selects, one has its port; the annotations for other scrapers are gone."""
    resources = rendered("overlays/servicemonitor")
    monitor = of_kind(resources, "ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    ports = [
        port["name"]
        for resource in resources
        if resource["kind"] == "Service" and resource["metadata"]["labels"] == monitor["selector"]["matchLabels"]
        for port in resource["spec"]["ports"]
    ]
    assert ports.count(endpoint["port"]) == 1
    assert not of_kind(resources, "Deployment")["spec"]["template"]["metadata"]["annotations"]


def test_the_fetched_bundle_is_the_served_one() -> None:
    """The init container writes where the server reads; both have the image, and the script comes from a ConfigMap."""
    resources = rendered("overlays/model-from-init-container")
    pod, server = pod_of(resources), container_of(resources)
    (fetch,) = pod["initContainers"]
    (script,) = of_kind(resources, "ConfigMap")["data"]
    assert fetch["image"] == server["image"]
    assert [argument.partition("=")[2] for argument in server["args"]] == [fetch["command"][-1]]
    assert fetch["command"][1] == f"/fetch/{script}"
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in server["volumeMounts"]
    assert {"name": "models", "mountPath": "/models"} in fetch["volumeMounts"]


def test_production_survives_a_zone_and_a_drain() -> None:
    """Spread over zones and nodes; more replicas than the disruption budget keeps; from a registry, in a namespace."""
    resources = rendered("overlays/prod")
    keys = {constraint["topologyKey"] for constraint in pod_of(resources)["topologySpreadConstraints"]}
    least = of_kind(resources, "HorizontalPodAutoscaler")["spec"]["minReplicas"]
    assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert least > of_kind(resources, "PodDisruptionBudget")["spec"]["minAvailable"]
    assert container_of(resources)["image"].startswith("registry.example.com/")
    assert {r["metadata"]["namespace"] for r in resources if r["kind"] != "Namespace"} == {"bertserve"}


def test_production_names_who_may_call() -> None:
    """Every rule that lets somebody in says whom."""
    policy = of_kind(rendered("overlays/prod"), "NetworkPolicy")["spec"]
    assert [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]] == [["grpc"], ["metrics"]]
    assert all(rule["from"] for rule in policy["ingress"])


def test_kserve_runs_the_pods_of_the_base(pod: Resource) -> None:
    """The same pod but for the container's name, the account, and KServe's protocol: neither can fall behind."""
    (found,) = predictor_pods("overlays/kserve")
    (container,) = found["spec"]["containers"]
    assert container["name"] == "kserve-container"
    (own,) = pod["containers"]
    protocol = {"name": "BERTSERVE_OPEN_INFERENCE", "value": "true"}
    base = {name: value for name, value in pod.items() if name != "serviceAccountName"}
    named = {**container, "name": "bertserve", "env": sorted(container["env"], key=str)}
    expected = {**own, "env": sorted([*own["env"], protocol], key=str)}
    assert {**found["spec"], "containers": [named]} == {**base, "containers": [expected]}


def kinds(resources: list[Resource]) -> set[str]:
    """Every kind that occurs."""
    return {resource["kind"] for resource in resources}


def predictor_pods(overlay: str) -> list[Resource]:
    """The pods that KServe would make of an overlay's InferenceServices, as pods of their own."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": resource["metadata"],
            "spec": {name: value for name, value in resource["spec"]["predictor"].items() if name not in KSERVE_FIELDS},
        }
        for resource in rendered(overlay)
        if resource["kind"] == "InferenceService"
    ]
