"""A bundle whose weights are changed on disk while it is served."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import grpc
import pytest
from bertapi.v1 import bert_service_pb2 as pb
from bertapi.v1 import bert_service_pb2_grpc as pb_grpc
from bertexport.graph.constants import Constants
from bertserve.bundle import Bundle, BundleError, read_bundle
from checkpoints import write_checkpoint
from servers import RunningServer, running_server

from .conftest import Export

pytestmark = pytest.mark.export

REQUEST = pb.FillMaskRequest(inputs=[pb.TextInput(text="the cat sat on the [MASK]")])
# No token of the first: rows of tables that nobody has read yet.
OTHER_REQUEST = pb.FillMaskRequest(inputs=[pb.TextInput(text="a yellow bird [MASK] long winter songs, never again")])


def write_over(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))


def cut_short(path: Path) -> None:
    os.truncate(path, 0)


def replace(path: Path) -> None:
    (path.parent / "other").write_bytes(bytes(1000))
    (path.parent / "other").rename(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def bundle(tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A tiny one whose weights lie in a file of their own, as large ones do."""
    monkeypatch.setattr("bertexport.graph.nodes.Constants", partial(Constants, external_data_bytes=10_000))
    bundle = export(write_checkpoint(tmp_path / "checkpoint"))
    assert bundle.graph_data_path.stat().st_size > 100_000
    return bundle


def test_what_was_loaded_is_served_whatever_becomes_of_its_file(bundle: Bundle) -> None:
    """Not a bit of any answer changes, and the server lives; the next one refuses what it finds."""
    with running_server(bundle.path) as untouched:
        expected = answers(untouched)
    with running_server(bundle.path) as server:
        for change in (write_over, cut_short, replace, remove):
            change(bundle.graph_data_path)
            assert answers(server) == expected, change.__name__
        assert server.stop() == 0
    with pytest.raises(BundleError, match="missing"):
        read_bundle(bundle.path)


def answers(server: RunningServer) -> list[pb.FillMaskResponse]:
    """Without their timings."""
    with grpc.insecure_channel(server.target) as channel:
        stub = pb_grpc.BertServiceStub(channel)
        responses = [stub.FillMask(request, timeout=60) for request in (REQUEST, OTHER_REQUEST)]
    for response in responses:
        response.ClearField("info")
    return responses
