"""The table from errors to statuses."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from bertserve.doors.grpc.statuses import CODE_LABELS, find_code
from bertserve.doors.statuses import INTERNAL, STATUSES, Status, find_status
from bertserve.errors import RequestError


def test_every_error_has_a_status() -> None:
    """An error that a client may learn of has a status of its own. Only a bug is INTERNAL."""
    assert STATUSES.keys() == set(RequestError.__subclasses__())
    assert INTERNAL not in STATUSES.values()


@pytest.mark.parametrize("status", [*STATUSES.values(), INTERNAL], ids=lambda status: status.grpc)
def test_the_two_columns_agree(status: Status) -> None:
    """Both doors blame the same side: a client's fault is 4xx, a fault of the server or of time is 5xx."""
    server_faults = {"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert (status.http >= HTTPStatus.INTERNAL_SERVER_ERROR) == (status.grpc in server_faults)


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.__name__)
def test_every_name_is_a_code_of_grpc(kind: type[RequestError]) -> None:
    """The table names codes as gRPC does."""
    error = kind.__new__(kind)
    assert find_code(error).name == find_status(error).grpc
    assert find_code(error) in CODE_LABELS


def test_what_is_no_error_of_a_request_is_internal() -> None:
    """A bug in the server has one status in every door."""
    assert find_code(KeyError("text")).name == "INTERNAL"
    assert find_status(KeyError("text")).http is HTTPStatus.INTERNAL_SERVER_ERROR
