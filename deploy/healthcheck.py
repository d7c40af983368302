"""Exit status 0 if the server in this container says over gRPC that it is ready; for Docker's HEALTHCHECK.

Kubernetes asks the same by itself, with grpc probes. A server that demands TLS needs a health check of its own.
"""

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = "bertapi.v1.BertService"
TIMEOUT_SECONDS = 3


def main() -> int:
    target = f"127.0.0.1:{os.environ.get('BERTSERVE_PORT', '50051')}"
    with grpc.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            sys.stderr.write(f"{target}: {error}\n")
            return 1
    return 0 if response.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
