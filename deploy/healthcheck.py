"""Exit status 0 if the server in this container says that it is ready; for Docker's HEALTHCHECK.

Over gRPC, as Kubernetes' probes ask; where the server demands TLS, whose authorities are nobody's business here, by
/readyz on the metrics port, which stays plain HTTP. Reads the settings as the server does, flags left out.
"""

import sys
import urllib.request

import grpc
from bertserve.settings import SettingsError, read_settings
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = "bertapi.v1.BertService"
TIMEOUT_SECONDS = 3

# Docker hands the proxies that its user has configured to every container, and neither library spares this address.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0)]


def main() -> int:
    try:
        settings = read_settings([])
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if settings.tls_certificate is not None:
        return ask_http(f"http://127.0.0.1:{settings.metrics_port}/readyz")
    return ask_grpc(f"127.0.0.1:{settings.port}")


def ask_http(url: str) -> int:
    try:
        with DIRECT.open(url, timeout=TIMEOUT_SECONDS):
            return 0
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


def ask_grpc(target: str) -> int:
    with grpc.insecure_channel(target, CHANNEL_OPTIONS) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            sys.stderr.write(f"{target}: {error.details()}\n")
            return 1
    return 0 if response.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
