"""gRPC's own codes for the statuses of `doors.statuses`, and the labels that metrics give them."""

from __future__ import annotations

import grpc

from bertserve.doors.statuses import find_status

# As go-grpc-prometheus spells them.
CODE_LABELS = {code: "".join(part.capitalize() for part in code.name.split("_")) for code in grpc.StatusCode} | {
    grpc.StatusCode.OK: "OK",
    grpc.StatusCode.CANCELLED: "Canceled",
}


def find_code(error: Exception) -> grpc.StatusCode:
    """Return the code of a call, or of one input of a stream, that ended with this error."""
    return grpc.StatusCode[find_status(error).grpc]
